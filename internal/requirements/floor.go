// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// floorFile holds, for each specification, what was reached: at least so many
// requirements proven, at most so many open (neither proven nor excepted). Whoever
// proves more raises it with -raise; whoever adds requirements or has to give up a proof
// changes it by hand, and says why in the commit.
const floorFile = "testdata/requirements.floor"

const floorHeading = "specification\tproven at least\topen at most\n"

// floor is one line of floorFile.
type floor struct{ proven, open int }

// readFloors reads floorFile; the first line is a heading. Without the file there are
// no floors.
func readFloors(root string) (map[string]floor, error) {
	floors := make(map[string]floor)
	err := readLines(filepath.Join(root, floorFile), func(n int, line string) error {
		if n == 1 {
			return nil
		}
		fields := strings.Split(line, "\t")
		if len(fields) != 3 {
			return fmt.Errorf("%s:%d: %d columns, want 3", floorFile, n, len(fields))
		}
		var f floor
		for i, v := range []*int{&f.proven, &f.open} {
			var err error
			if *v, err = strconv.Atoi(fields[1+i]); err != nil {
				return fmt.Errorf("%s:%d: %w", floorFile, n, err)
			}
		}
		floors[fields[0]] = f
		return nil
	})
	if os.IsNotExist(err) {
		err = nil
	}
	return floors, err
}

// floorOf returns what a specification has reached.
func (c *counts) floorOf() floor {
	return floor{proven: c[proven], open: c[implemented] + c[missing]}
}

// checkFloors fails on each figure that has fallen, and on a specification without floor.
func (t *table) checkFloors(floors map[string]floor) error {
	var errs []error
	for _, spec := range t.specs {
		want, ok := floors[spec]
		got := t.counts[spec].floorOf()
		if !ok {
			errs = append(errs, fmt.Errorf("%s has no floor in %s", spec, floorFile))
			continue
		}
		if got.proven < want.proven {
			errs = append(errs, fmt.Errorf("%s: %d requirements are proven, the floor is %d", spec, got.proven, want.proven))
		}
		if got.open > want.open {
			errs = append(errs, fmt.Errorf("%s: %d requirements are open, at most %d were", spec, got.open, want.open))
		}
	}
	for _, spec := range slices.Sorted(maps.Keys(floors)) {
		if !slices.Contains(t.specs, spec) {
			errs = append(errs, fmt.Errorf("%s: %s has no requirements", floorFile, spec))
		}
	}
	return errors.Join(errs...)
}

// raiseFloors writes the figures reached to floorFile; none may have fallen.
func (t *table) raiseFloors(root string, floors map[string]floor) error {
	var b strings.Builder
	b.WriteString(floorHeading)
	for _, spec := range t.specs {
		got := t.counts[spec].floorOf()
		if want, ok := floors[spec]; ok && (got.proven < want.proven || got.open > want.open) {
			return t.checkFloors(floors)
		}
		fmt.Fprintf(&b, "%s\t%d\t%d\n", spec, got.proven, got.open)
	}
	return os.WriteFile(filepath.Join(root, floorFile), []byte(b.String()), 0o644)
}
