// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

func readme(t *testing.T) string {
	b, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestReadmeExamplesParse takes each example file of the README.
func TestReadmeExamplesParse(t *testing.T) {
	blocks := regexp.MustCompile("(?s)```(?:ini|json)\n(.*?)```").FindAllStringSubmatch(readme(t), -1)
	if len(blocks) < 3 {
		t.Fatalf("%d example files", len(blocks))
	}
	for _, b := range blocks {
		mode := ModeServer
		if strings.Contains(b[1], "vpn.example.com") {
			mode = ModeClient
		}
		if _, err := parse(mode, b[1]); err != nil {
			t.Errorf("%v in\n%s", err, b[1])
		}
	}
}

// TestReadmeTable: the table of the README lists each option under its three names.
func TestReadmeTable(t *testing.T) {
	text := readme(t)
	for _, o := range options {
		name := fmt.Sprintf("`%s`", o.key)
		if o.section != "" {
			name = fmt.Sprintf("`[%s] %s`", o.section, o.key)
		}
		row := fmt.Sprintf("| %s | `%s` |", name, o.json)
		if !strings.Contains(text, "| `--"+o.flag+"`") || !strings.Contains(text, row) {
			t.Errorf("the README lacks --%s, %s", o.flag, row)
		}
	}
}

// TestReadmeExitCodes: the README's table is that of --help.
func TestReadmeExitCodes(t *testing.T) {
	text := readme(t)
	for _, m := range exitMeanings {
		if row := fmt.Sprintf("| %d | %s |", m.code, m.text); !strings.Contains(strings.ReplaceAll(text, "`", ""), row) {
			t.Errorf("the README lacks %q", row)
		}
	}
}
