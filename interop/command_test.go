// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestCommand: the command that the runner starts, with its flags and exit codes.
func TestCommand(t *testing.T) {
	dir := t.TempDir()
	command := filepath.Join(dir, "mqvpn-interop")
	if out, err := exec.Command("go", "build", "-o", command, "./cmd/mqvpn-interop").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	www, certs, _ := makeFiles(t)
	server := start(t, exec.Command(command, "-role", "server", "-testcase", "http3", "-www", www, "-certs", certs, "-listen", "127.0.0.1:0"))
	address, err := server.address()
	if err != nil {
		t.Fatal(err)
	}
	name := fileName(0, kB)
	for _, tt := range []struct {
		testCase, file string
		want           int
	}{
		{"http3", name, 0},
		{"http3", "no-such-file", 1},
		{"v2", name, 127},
	} {
		cmd := exec.Command(command, "-downloads", dir)
		cmd.Env = append(os.Environ(), "ROLE=client", "TESTCASE="+tt.testCase, fmt.Sprintf("REQUESTS=https://%v/%s", address, tt.file),
			"QLOGDIR="+dir, "SSLKEYLOGFILE="+filepath.Join(dir, "keys"))
		client := start(t, cmd)
		if code := client.wait(30 * time.Second); code != tt.want {
			t.Errorf("%s of %s: exit code %d, want %d\n%s", tt.testCase, tt.file, code, tt.want, client.log())
		}
	}
	if b, err := os.ReadFile(filepath.Join(dir, name)); err != nil || len(b) != kB {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	for _, pattern := range []string{"*_client*.sqlog", "keys"} {
		found, _ := filepath.Glob(filepath.Join(dir, pattern))
		if len(found) == 0 {
			t.Errorf("no file %s", pattern)
			continue
		}
		if st, err := os.Stat(found[0]); err != nil || st.Size() == 0 {
			t.Errorf("%s: %v", found[0], err)
		}
	}
	if code := server.stop(); code != 0 {
		t.Errorf("the server's exit code is %d\n%s", code, server.log())
	}
}
