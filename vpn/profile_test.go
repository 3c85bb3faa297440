// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// TestCPUProfile: the file is there when the program ends, also for a reason of its
// own, which is what it exits with.
func TestCPUProfile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpu.pprof")
	var out, errOut bytes.Buffer
	args := []string{"--cpuprofile", file, "--subnet", "10.0.0.0/24", "--cert", "/nonexistent", "--key", "/nonexistent", "--auth-key", "k"}
	if code := Main(t.Context(), ModeServer, args, &out, &errOut); code != int(ExitCertificate) {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
	b, err := os.ReadFile(file)
	if gzip := []byte{0x1f, 0x8b}; err != nil || !bytes.HasPrefix(b, gzip) {
		t.Errorf("the profile is %d bytes: %v", len(b), err)
	}
	args[1] = filepath.Join(t.TempDir(), "none", "cpu.pprof")
	errOut.Reset()
	if code := Main(t.Context(), ModeServer, args, &out, &errOut); code != int(ExitFailure) || !bytes.Contains(errOut.Bytes(), []byte("--cpuprofile")) {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
}
