// SPDX-License-Identifier: Apache-2.0

// Requirements prints, for each specification in testdata/requirements.tsv, how many
// of its requirements are proven by a test that cites them, implemented by code that
// cites them, excepted with a reason (testdata/exceptions.tsv), or open. It fails on
// an id that does not exist, and on a figure below what testdata/requirements.floor says
// was reached.
//
//	go run ./internal/requirements [-open] [-level MUST] [-raise]
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
	raise := flag.Bool("raise", false, "write the figures to "+floorFile)
	flag.Parse()
	if err := run(os.Stdout, *root, *level, *open, *raise); err != nil {
		fmt.Fprintln(os.Stderr, "requirements:", err)
		os.Exit(1)
	}
}

func run(out io.Writer, root, level string, open, raise bool) error {
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
	floors, err := readFloors(root)
	if err != nil {
		return err
	}
	count(reqs, cites, exceptions, level).print(out)
	if open {
		printOpen(out, reqs, cites, exceptions, level)
	}
	all := count(reqs, cites, exceptions, "")
	if raise {
		return all.raiseFloors(root, floors)
	}
	return all.checkFloors(floors)
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

// counts is how many requirements have each status.
type counts [numStatuses]int

// table holds the counts of each specification, in the order of requirementsFile.
type table struct {
	specs  []string
	counts map[string]*counts
}

func count(reqs []requirement, cites map[string]citation, exceptions map[string]string, level string) *table {
	t := &table{counts: make(map[string]*counts)}
	for _, r := range reqs {
		if level != "" && r.level != level {
			continue
		}
		if t.counts[r.spec] == nil {
			t.counts[r.spec] = new(counts)
			t.specs = append(t.specs, r.spec)
		}
		t.counts[r.spec][statusOf(r.id, cites, exceptions)]++
	}
	return t
}

func (t *table) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "specification\ttotal\t")
	for _, n := range statusNames {
		fmt.Fprint(w, n, "\t")
	}
	fmt.Fprintln(w)
	row := func(name string, c counts) {
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
	var total counts
	for _, spec := range t.specs {
		row(spec, *t.counts[spec])
		for s, n := range t.counts[spec] {
			total[s] += n
		}
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
