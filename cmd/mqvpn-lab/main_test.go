// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/mqvpn/mqvpn/internal/lab"
)

func TestCommandLine(t *testing.T) {
	for _, test := range []struct {
		args string
		code int
		says string
	}{
		{"", exitUsage, "demo, bench, flood, suite or help"},
		{"dmo", exitUsage, `"dmo"`},
		{"demo bench", exitUsage, `"bench"`},
		{"demo --ot x", exitUsage, "--ot"},
		{"bench --seconds 0", exitUsage, "1 to 600"},
		{"bench --rounds 0", exitUsage, "1 to 1000"},
		{"bench --rows tcp-1-up,none", exitUsage, `"none"`},
		{"flood --kinds forged,mixed", exitUsage, `"mixed"`},
		{"flood --rates 0", exitUsage, "--rates 0"},
		{"suite", exitUsage, "aggregate, profiles"},
		{"suite latency failover", exitUsage, `"failover"`},
		{"suite latency --only none", exitUsage, `"none"`},
		{"suite latency --rounds 0", exitUsage, "1 to 1000"},
		{"suite --list", exitPassed, "silent-up-A-load-up"},
		{"null-tunnel 10.0.0.1:1", exitFailed, "REMOTE"},
		{"demo --bin /nonexistent --out " + t.TempDir(), exitFailed, "--bin DIR"},
		{"help", exitPassed, "Exit codes"},
		{"help", exitPassed, "(clients-1000)"},
		{"demo --help", exitPassed, "mqvpn-lab demo"},
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), strings.Fields(test.args), &stdout, &stderr)
		if out := stdout.String() + stderr.String(); code != test.code || !strings.Contains(out, test.says) {
			t.Errorf("mqvpn-lab %s: exit code %d, want %d and %q in:\n%s", test.args, code, test.code, test.says, out)
		}
		if code == exitUsage && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("mqvpn-lab %s: more than one line:\n%s", test.args, &stderr)
		}
	}
}

func TestRefusalHasAnExitCodeOfItsOwn(t *testing.T) {
	var stderr bytes.Buffer
	refused := fmt.Errorf("wrapped: %w", &lab.RefusedError{What: "a thing", Hint: "do this", Err: errors.New("no")})
	if code := report(t.Context(), &stderr, refused); code != exitRefused || !strings.Contains(stderr.String(), "do this") {
		t.Errorf("exit code %d, %q", code, &stderr)
	}
}
