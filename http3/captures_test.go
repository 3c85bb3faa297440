// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// capturedStream is what was read from one stream of a recording.
type capturedStream struct {
	typ     uint64 // of a unidirectional stream
	fields  [][]Field
	content []byte
	set     Settings
}

// parseCaptured reads a stream of another implementation whole.
func parseCaptured(t *testing.T, b []byte, uni bool) (s capturedStream) {
	t.Helper()
	f := newFrameReader(bytes.NewReader(b))
	if uni {
		var err error
		if s.typ, err = readVarint(f.r); err != nil {
			t.Fatal(err)
		}
		switch s.typ {
		case streamQPACKEncoder:
			if err := serveQPACKEncoder(f.r); err != io.EOF {
				t.Errorf("encoder stream: %v", err)
			}
			return s
		case streamQPACKDecoder:
			if err := serveQPACKDecoder(f.r); err != io.EOF {
				t.Errorf("decoder stream: %v", err)
			}
			return s
		}
	}
	for {
		typ, err := f.next()
		if err == io.EOF {
			return s
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := f.value(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		switch typ {
		case frameSettings:
			if s.set, err = parseSettings(b); err != nil {
				t.Error(err)
			}
		case frameHeaders:
			fields, err := decodeFieldSection(b, maxFieldSectionSize)
			if err != nil {
				t.Error(err)
			}
			s.fields = append(s.fields, fields)
		case frameData:
			s.content = append(s.content, b...)
		}
	}
}

// TestCaptures parses the HTTP/3 streams of recorded connections of other
// implementations.
func TestCaptures(t *testing.T) {
	const captures = "../testdata/captures"
	for _, c := range []struct {
		folder   string
		path     string
		status   int // 0: no response
		content  int
		settings Settings // of the server
	}{
		{"picoquic-h3", "/150k.bin", 200, 150000, Settings{65536, true, true}},
		{"picoquic-keyupdate", "/150k.bin", 200, 150000, Settings{65536, true, true}},
		{"picoquic-to-xquic", "/150k.bin", 200, 150000, Settings{32768, false, true}},
		{"xquic-abandon", "/150k.bin", 200, 150000, Settings{65536, true, true}},
		{"xquic-status", "/150k.bin", 200, 150000, Settings{65536, true, true}},
		{"mqvpn-c-connect-ip", "/.well-known/masque/ip/*/*/", 200, 7 + 2 + 19 + 2 + 10 + 2 + 34 + 2, Settings{32768, true, true}},
		{"mqvpn-c-refused", "/.well-known/masque/ip/*/*/", 0, 0, Settings{32768, true, true}},
	} {
		t.Run(c.folder, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(captures, c.folder, "streams", "*.bin"))
			if err != nil || len(files) < 5 {
				t.Fatalf("%d files, %v", len(files), err)
			}
			responded := false
			for _, file := range files {
				b, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				name := filepath.Base(file)
				fromServer := strings.HasPrefix(name, "server_to_client")
				uni := !strings.HasSuffix(name, "-0.bin")
				s := parseCaptured(t, b, uni)
				switch {
				case uni && s.typ == streamControl && fromServer:
					if s.set != c.settings {
						t.Errorf("%s: settings %+v", name, s.set)
					}
				case uni:
				case len(s.fields) != 1:
					t.Errorf("%s: %d field sections", name, len(s.fields))
				case fromServer:
					responded = true
					resp, err := parseResponse(s.fields[0])
					if err != nil || resp.Status != c.status || len(s.content) != c.content {
						t.Errorf("%s: %+v, %v, %d bytes of content", name, resp, err, len(s.content))
					}
				default:
					req, err := parseRequest(s.fields[0])
					if err != nil || req.Path != c.path {
						t.Errorf("%s: %+v, %v", name, req, err)
					}
					if req.isConnect() && (req.Protocol != "connect-ip" || !UsesCapsuleProtocol(req.Header)) {
						t.Errorf("%s: %+v", name, req)
					}
				}
			}
			if responded != (c.status != 0) {
				t.Errorf("response: %v", responded)
			}
		})
	}
}
