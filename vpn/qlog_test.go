// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestQlogDir: with QLOGDIR client and server each write a complete log of a connection
// of two paths.
func TestQlogDir(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("QLOGDIR", dir)
	simulate(t, 1, func(t *testing.T, s *sim) {
		server := s.startServer(nil)
		client := s.startClient(0, nil)
		client.waitUp(time.Second)
		time.Sleep(time.Second)
		client.end()
		server.end()
	})
	for _, side := range []string{"client", "server"} {
		files, err := filepath.Glob(filepath.Join(dir, "*_"+side+".sqlog"))
		if err != nil || len(files) != 1 {
			t.Fatalf("%s: %v %v", side, files, err)
		}
		b, err := os.ReadFile(files[0])
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{`"group_id":"` + strings.TrimSuffix(filepath.Base(files[0]), "_"+side+".sqlog") + `"`,
			`"quic:packet_sent","tuple":"1"`, `"frame_type":"path_challenge"`, `"quic:connection_closed"`, `"new":"closed"`} {
			if !bytes.Contains(b, []byte(want)) {
				t.Errorf("%s: no %s", side, want)
			}
		}
	}
}

// TestQlogDirMissing: a directory that is not there is told once, and no file is tried.
func TestQlogDirMissing(t *testing.T) {
	t.Setenv("QLOGDIR", filepath.Join(t.TempDir(), "missing"))
	var log bytes.Buffer
	if dir := openQlog(slog.New(slog.NewTextHandler(&log, nil))); dir != nil || !strings.Contains(log.String(), "no qlog is written") {
		t.Errorf("%v, %s", dir, log.String())
	}
}
