// SPDX-License-Identifier: Apache-2.0

// Requirements prints, for each specification in testdata/requirements.tsv, how many
// of its requirements are proven by a test that cites them, implemented by code that
// cites them, excepted with a reason (testdata/exceptions.tsv), or open. It fails on
// an id that does not exist.
//
//	go run ./internal/requirements [-open] [-level MUST]
package main

import (
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"text/tabwriter"
)

func main() {
	root := flag.String("root", ".", "root of the repository")
	open := flag.Bool("open", false, "list the requirements that are not proven")
	level := flag.String("level", "", "only requirements of this level: MUST, SHOULD or DEF")
	flag.Parse()
	if err := run(os.Stdout, *root, *level, *open); err != nil {
		fmt.Fprintln(os.Stderr, "requirements:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, root, level string, open bool) error {
	reqs, err := readRequirements(root)
	if err != nil {
		return err
	}
	cites, err := scan(root)
	if err != nil {
		return err
	}
	exceptions, err := readExceptions(root)
	if err != nil {
		return err
	}
	if err := checkIDs(reqs, cites, exceptions); err != nil {
		return err
	}
	printTable(out, reqs, cites, exceptions, level)
	if open {
		printOpen(out, reqs, cites, exceptions, level)
	}
	return nil
}

// checkIDs fails on citations of requirements that do not exist.
func checkIDs(reqs []requirement, cites map[string]citation, exceptions map[string]string) error {
	known := make(map[string]bool)
	for _, r := range reqs {
		known[r.id] = true
	}
	for _, id := range slices.Sorted(maps.Keys(cites)) {
		if !known[id] {
			return fmt.Errorf("%s: unknown requirement %s", cites[id].where, id)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(exceptions)) {
		if !known[id] {
			return fmt.Errorf("%s: unknown requirement %s", exceptionsFile, id)
		}
	}
	return nil
}

// status of a requirement, the best that holds.
type status int

const (
	proven status = iota
	excepted
	implemented
	missing
	numStatuses
)

var statusNames = [numStatuses]string{"proven", "excepted", "implemented", "open"}

func statusOf(id string, cites map[string]citation, exceptions map[string]string) status {
	switch c := cites[id]; {
	case c.inTest:
		return proven
	case exceptions[id] != "":
		return excepted
	case c.inCode:
		return implemented
	}
	return missing
}

func printTable(out io.Writer, reqs []requirement, cites map[string]citation, exceptions map[string]string, level string) {
	var specs []string
	counts := make(map[string]*[numStatuses]int)
	var total [numStatuses]int
	for _, r := range reqs {
		if level != "" && r.level != level {
			continue
		}
		if counts[r.spec] == nil {
			counts[r.spec] = new([numStatuses]int)
			specs = append(specs, r.spec)
		}
		s := statusOf(r.id, cites, exceptions)
		counts[r.spec][s]++
		total[s]++
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "specification\ttotal\t")
	for _, n := range statusNames {
		fmt.Fprint(w, n, "\t")
	}
	fmt.Fprintln(w)
	row := func(name string, c [numStatuses]int) {
		sum := 0
		for _, n := range c {
			sum += n
		}
		fmt.Fprintf(w, "%s\t%d\t", name, sum)
		for _, n := range c {
			fmt.Fprintf(w, "%d\t", n)
		}
		fmt.Fprintln(w)
	}
	for _, s := range specs {
		row(s, *counts[s])
	}
	row("all", total)
	w.Flush()
}

func printOpen(out io.Writer, reqs []requirement, cites map[string]citation, exceptions map[string]string, level string) {
	for _, r := range reqs {
		if s := statusOf(r.id, cites, exceptions); s != proven && (level == "" || r.level == level) {
			fmt.Fprintf(out, "%-12s %-20s %-6s %s", statusNames[s], r.id, r.level, r.text)
			if s == excepted {
				fmt.Fprintf(out, " [%s]", exceptions[r.id])
			}
			fmt.Fprintln(out)
		}
	}
}
