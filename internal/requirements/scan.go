// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

const (
	requirementsFile = "testdata/requirements.tsv"
	// exceptionsFile holds lines of an id, a tab, and the reason why the requirement is
	// not met or does not apply.
	exceptionsFile = "testdata/exceptions.tsv"
)

// requirement is one row of requirementsFile.
type requirement struct{ id, spec, level, text string }

// readRequirements reads the list; the first line is a heading.
func readRequirements(root string) ([]requirement, error) {
	var reqs []requirement
	err := readLines(filepath.Join(root, requirementsFile), func(n int, line string) error {
		f := strings.Split(line, "\t")
		if len(f) != 7 {
			return fmt.Errorf("%s:%d: %d columns, want 7", requirementsFile, n, len(f))
		}
		if n > 1 {
			reqs = append(reqs, requirement{id: f[0], spec: f[1], level: f[3], text: f[5]})
		}
		return nil
	})
	return reqs, err
}

// readExceptions reads the exceptions; without the file there are none.
func readExceptions(root string) (map[string]string, error) {
	exceptions := make(map[string]string)
	err := readLines(filepath.Join(root, exceptionsFile), func(n int, line string) error {
		id, reason, ok := strings.Cut(line, "\t")
		if !ok || strings.TrimSpace(reason) == "" {
			return fmt.Errorf("%s:%d: no reason", exceptionsFile, n)
		}
		exceptions[id] = reason
		return nil
	})
	if os.IsNotExist(err) {
		err = nil
	}
	return exceptions, err
}

func readLines(path string, f func(n int, line string) error) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	sc := bufio.NewScanner(file)
	for n := 1; sc.Scan(); n++ {
		if err := f(n, sc.Text()); err != nil {
			return err
		}
	}
	return sc.Err()
}

// citation says where a requirement is cited.
type citation struct {
	inTest, inCode bool
	where          string // the first place
}

var idPattern = regexp.MustCompile(`\b(?:R[0-9]{4}|RMP21)-[0-9A-Z]+(?:\.[0-9]+)*-[0-9]+\b`)

// scan finds the ids cited in Go files.
func scan(root string) (map[string]citation, error) {
	cites := make(map[string]citation)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".git" || path == filepath.Join(root, "internal", "requirements")) {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" {
			return nil
		}
		test := strings.HasSuffix(path, "_test.go")
		return readLines(path, func(n int, line string) error {
			for _, id := range idPattern.FindAllString(line, -1) {
				c := cites[id]
				if c.where == "" {
					c.where = fmt.Sprintf("%s:%d", path, n)
				}
				c.inTest = c.inTest || test
				c.inCode = c.inCode || !test
				cites[id] = c
			}
			return nil
		})
	})
	return cites, err
}
