// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func testHandler(req controlRequest) (any, error) {
	if req.Cmd == "get_stats" {
		return struct {
			N int `json:"n_clients"`
		}{3}, nil
	}
	return nil, errors.New("unknown command")
}

func TestControlSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "c.sock")
	s, err := listenControl(path, testHandler)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", fi, err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(c)
	for _, tt := range []struct{ request, want string }{
		{`{"cmd":"get_stats"}`, `{"ok":true,"n_clients":3}`},
		{`{"cmd":"nonsense","x":1}`, `{"ok":false,"error":"unknown command"}`},
		{`{"cmd":`, `{"ok":false,"error":"unexpected end of JSON input"}`},
		{strings.Repeat(" ", maxControlRequest), `{"ok":false,"error":"request too long"}`},
	} {
		fmt.Fprintln(c, tt.request)
		if got, err := lines.ReadString('\n'); got != tt.want+"\n" {
			t.Errorf("%.40s: %q, %v; want %q", tt.request, got, err, tt.want)
		}
	}
	if _, err := lines.ReadByte(); err == nil {
		t.Error("connection stays open after a request that is too long")
	}
	if _, err := listenControl(path, testHandler); exitCode(err) != ExitAddressUsed {
		t.Errorf("second program on the same socket: %v", err)
	}
	if line, err := askControl(t.Context(), path, controlRequest{Cmd: "get_stats"}); err != nil || !strings.Contains(string(line), `"n_clients":3`) {
		t.Errorf("askControl: %s, %v", line, err)
	}
	if _, err := askControl(t.Context(), path, controlRequest{Cmd: "nonsense"}); err == nil {
		t.Error("askControl hides the error of the answer")
	}
	s.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("socket is left after Close")
	}
	if _, err := askControl(t.Context(), path, controlRequest{Cmd: "get_stats"}); exitCode(err) != ExitNotRunning {
		t.Errorf("nothing running: %v", err)
	}
}

func TestControlSocketBounds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	s, err := listenControl(path, testHandler)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var conns []net.Conn
	for range maxControlConns {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintln(c, `{"cmd":"get_stats"}`) // the answer shows that it has its slot
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
	}
	if _, err := askControl(t.Context(), path, controlRequest{Cmd: "get_stats"}); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("one connection too many: %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
}

// TestControlSocketLeftBehind: a killed program leaves its socket file.
func TestControlSocketLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "c.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	s, err := listenControl(path, testHandler)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestStatusWithoutProgram(t *testing.T) {
	var out, errOut bytes.Buffer
	code := Main(t.Context(), ModeClient, []string{"status", "--control", filepath.Join(t.TempDir(), "x")}, &out, &errOut)
	if code != int(ExitNotRunning) || !strings.Contains(errOut.String(), "--control") {
		t.Errorf("exit code %d: %s", code, &errOut)
	}
}
