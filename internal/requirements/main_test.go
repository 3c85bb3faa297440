// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tree writes files into a new root.
func tree(t *testing.T, files map[string]string) string {
	root := t.TempDir()
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const heading = "id\tspec\tsection\tlevel\tapplies-to\trequirement\tobservable\n"

func row(id string) string { return id + "\tRFC 9000\t1\tMUST\tboth\tIt works.\tSeen.\n" }

func TestStatuses(t *testing.T) {
	root := tree(t, map[string]string{
		requirementsFile: heading + row("R9000-1-1") + row("R9000-1-2") + row("R9000-1-3") + row("R9000-1-4"),
		exceptionsFile:   "R9000-1-3\tdoes not apply\n",
		floorFile:        floorHeading + "RFC 9000\t1\t2\n",
		"a/a.go":         "package a // R9000-1-2 R9000-1-1\n",
		"a/a_test.go":    "package a // R9000-1-1\n",
	})
	var out strings.Builder
	if err := run(&out, root, "", true, false); err != nil {
		t.Fatal(err)
	}
	got := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"specification total proven excepted implemented open",
		"all 4 1 1 1 1",
		"implemented R9000-1-2 MUST It works.",
		"excepted R9000-1-3 MUST It works. [does not apply]",
		"open R9000-1-4 MUST It works.",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

func TestUnknownID(t *testing.T) {
	root := tree(t, map[string]string{
		requirementsFile: heading + row("R9000-1-1"),
		"a.go":           "package a // R9000-1-9\n",
	})
	err := run(&strings.Builder{}, root, "", false, false)
	if err == nil || !strings.Contains(err.Error(), "a.go:1: unknown requirement R9000-1-9") {
		t.Errorf("error %v", err)
	}
}

func TestExceptionNeedsReason(t *testing.T) {
	root := tree(t, map[string]string{requirementsFile: heading + row("R9000-1-1"), exceptionsFile: "R9000-1-1\t\n"})
	if err := run(&strings.Builder{}, root, "", false, false); err == nil {
		t.Error("no error")
	}
}

// TestFloor fails when a figure falls, and says which.
func TestFloor(t *testing.T) {
	files := map[string]string{
		requirementsFile: heading + row("R9000-1-1") + row("R9000-1-2") + row("R9000-1-3"),
		exceptionsFile:   "R9000-1-3\tdoes not apply\n",
		"a_test.go":      "package a // R9000-1-1\n",
	}
	for _, tt := range []struct{ floor, want string }{
		{"RFC 9000\t1\t1\n", ""},
		{"RFC 9000\t0\t2\n", ""},
		{"RFC 9000\t2\t1\n", "RFC 9000: 1 requirements are proven, the floor is 2"},
		{"RFC 9000\t1\t0\n", "RFC 9000: 1 requirements are open, at most 0 were"},
		{"", "RFC 9000 has no floor in " + floorFile},
		{"RFC 9000\t1\t1\nRFC 1\t0\t0\n", floorFile + ": RFC 1 has no requirements"},
		{"RFC 9000\t1\n", floorFile + ":2: 2 columns, want 3"},
		{"RFC 9000\t1\tx\n", floorFile + `:2: strconv.Atoi: parsing "x": invalid syntax`},
	} {
		files[floorFile] = floorHeading + tt.floor
		got := ""
		if err := run(&strings.Builder{}, tree(t, files), "", false, false); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("floor %q: error %q, want %q", tt.floor, got, tt.want)
		}
	}
}

// TestRaise writes what was reached, but lowers nothing.
func TestRaise(t *testing.T) {
	for _, tt := range []struct {
		before, after string
		ok            bool
	}{
		{"", "RFC 9000\t1\t1\n", true},
		{"RFC 9000\t0\t2\n", "RFC 9000\t1\t1\n", true},
		{"RFC 9000\t2\t0\n", "RFC 9000\t2\t0\n", false},
	} {
		root := tree(t, map[string]string{
			requirementsFile: heading + row("R9000-1-1") + row("R9000-1-2"),
			"a_test.go":      "package a // R9000-1-1\n",
			floorFile:        floorHeading + tt.before,
		})
		err := run(&strings.Builder{}, root, "", false, true)
		if (err == nil) != tt.ok {
			t.Errorf("before %q: error %v", tt.before, err)
		}
		got, err := os.ReadFile(filepath.Join(root, floorFile))
		if err != nil || string(got) != floorHeading+tt.after {
			t.Errorf("before %q: %q (%v), want %q", tt.before, got, err, tt.after)
		}
	}
}

// TestRepository runs the check on this repository.
func TestRepository(t *testing.T) {
	var out strings.Builder
	if err := run(&out, "../..", "", false, false); err != nil {
		t.Error(err)
	}
	t.Log("\n" + out.String())
}
