// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"os"
	"slices"
	"testing"
)

// TestJournalCompact: a journal does not grow with time, and stays locked and right.
func TestJournalCompact(t *testing.T) {
	path := t.TempDir() + "/j"
	j, err := openJournal(path)
	must(t, err)
	kept := change{Kind: changeRule, Table: 7}
	must(t, j.add(kept))
	for i := range 5000 {
		c := change{Kind: changeRoute, Table: i}
		must(t, j.add(c))
		must(t, j.remove(c))
		if i == 4000 {
			if _, err := openJournal(path); exitCode(err) != ExitAddressUsed {
				t.Errorf("journal in use: %v", err)
			}
		}
	}
	if fi, err := os.Stat(path); err != nil || fi.Size() > 64<<10 {
		t.Errorf("journal: %v, %v", fi.Size(), err)
	}
	must(t, j.file.Close())
	j, err = openJournal(path)
	must(t, err)
	if !slices.Equal(j.changes, []change{kept}) {
		t.Errorf("after many changes: %v", j.changes)
	}
	must(t, j.remove(kept))
	must(t, j.close())
	if _, err := os.Stat(path); err == nil {
		t.Error("file left")
	}
}
