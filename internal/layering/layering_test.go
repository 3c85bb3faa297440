// SPDX-License-Identifier: Apache-2.0

// Package layering holds the test of which package may import which.
package layering

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/mqvpn/mqvpn/"
	root   = "../.."
)

// allowed lists, for each package, the packages of this module that its code may
// import. An arrow points down only.
var allowed = map[string][]string{
	"quic/sched":               {},
	"quic/internal/wire":       {},
	"quic/internal/congestion": {},
	"quic/internal/udpio":      {},
	"quic/qlog":                {},
	"quic/quictest":            {"quic/internal/udpio"},
	"quic":                     {"quic/sched", "quic/internal/wire", "quic/internal/congestion", "quic/internal/udpio", "internal/inline"},
	"http3":                    {"quic"},
	"masque":                   {"http3", "quic"},
	"tun":                      {},
	"tun/tuntest":              {},
	"vpn":                      {"masque", "http3", "quic", "quic/qlog", "quic/sched", "tun", "internal/inline", "internal/processors"},
	"cmd/mqvpn-client":         {"vpn"},
	"cmd/mqvpn-server":         {"vpn"},
	"internal/inline":          {},
	"internal/processors":      {"internal/inline"},
	"internal/requirements":    {},
	"internal/lab":             {"quic/quictest"},
	"internal/lab/bench":       {"internal/lab", "internal/lab/loadclients", "internal/lab/nulltunnel", "quic"},
	"internal/lab/demo":        {"internal/lab"},
	"internal/lab/flood":       {"internal/lab", "internal/lab/loadclients", "http3", "quic"},
	"internal/lab/loadclients": {"masque", "http3", "quic", "quic/sched"},
	"internal/lab/nulltunnel":  {"tun"},
	"internal/lab/suite":       {"internal/lab"},
	"internal/e2e":             {"internal/lab"},
	"cmd/mqvpn-lab":            {"internal/lab", "internal/lab/bench", "internal/lab/demo", "internal/lab/flood", "internal/lab/suite"},
}

func TestImports(t *testing.T) {
	seen := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || d.Name() == ".git" || path == filepath.Join(root, "interop")) {
			return fs.SkipDir
		}
		if filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := filepath.ToSlash(dir)
		may, known := allowed[pkg]
		if !known {
			t.Errorf("%s: package %s has no rule in this test", path, pkg)
			return nil
		}
		seen[pkg] = true
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range f.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			checkImport(t, path, name, may)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range allowed {
		if !seen[pkg] {
			t.Errorf("there is no package %s", pkg)
		}
	}
}

func checkImport(t *testing.T, path, name string, may []string) {
	switch {
	case strings.HasPrefix(name, module):
		if short := strings.TrimPrefix(name, module); !slices.Contains(may, short) {
			t.Errorf("%s imports %s", path, short)
		}
	case strings.HasPrefix(name, "github.com/google/gopacket"):
		t.Errorf("%s: gopacket is for tests only", path)
	case strings.HasPrefix(name, "golang.org/x/net/quic"), strings.Contains(name, "quic-go"):
		t.Errorf("%s imports another QUIC stack: %s", path, name)
	}
}
