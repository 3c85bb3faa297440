// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"context"
	"debug/buildinfo"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Machine is where something was measured.
type Machine struct {
	CPU    string  `json:"cpu"`
	CPUs   int     `json:"cpus"`
	Memory float64 `json:"memory_gb"`
	Kernel string  `json:"kernel"`
	Go     string  `json:"go"` // of the program that measured
}

// ThisMachine describes the machine that runs this.
func ThisMachine() Machine {
	m := Machine{CPUs: runtime.NumCPU(), Go: runtime.Version()}
	info, _ := os.ReadFile("/proc/cpuinfo") // not all architectures tell the model
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.Kernel = unix.ByteSliceToString(u.Release[:])
	}
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) == nil {
		m.Memory = float64(s.Totalram) * float64(s.Unit) / 1e9
	}
	return m
}

// SourceCommit is the commit of the source tree that the process runs in, "+" if files
// were changed since; "" where that cannot be told.
func SourceCommit(ctx context.Context) string {
	commit, err := exec.CommandContext(ctx, "git", "rev-parse", "HEAD").Output()
	if err != nil {
		return ""
	}
	changes, err := exec.CommandContext(ctx, "git", "status", "--porcelain", "--untracked-files=no").Output()
	if err != nil {
		return ""
	}
	changed := ""
	if len(changes) > 0 {
		changed = "+"
	}
	return strings.TrimSpace(string(commit)) + changed
}

// BuildOf says what a program was built from, as far as it knows.
func BuildOf(program string) (commit, goVersion string) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return "", ""
	}
	changed := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+"
		}
	}
	if commit != "" {
		commit += changed
	}
	return commit, info.GoVersion
}
