// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// driverFiles are the files of this package that may touch the outside world. All
// others are the core: they take the time as an argument and return decisions.
var driverFiles = []string{
	"address_token.go",   // randomness, tokens that carry the wall-clock time
	"conn.go",            // what the application calls, from any goroutine
	"conn_loop.go",       // the goroutine of a connection and its timer
	"conntable.go",       // shared between readers and connections
	"endpoint.go",        // sockets, accepting, dialing
	"endpoint_rx.go",     // the goroutine of a socket
	"run_token.go",       // who may run a turn
	"mailbox.go",         // hand-over from any goroutine to the loop
	"packetbuf.go",       // pool
	"grease.go",          // randomness
	"session_store.go",   // shared between connections
	"session_ticket.go",  // tickets carry the wall-clock time
	"stateless_reset.go", // randomness
	"stream.go",          // what the application calls
	"stream_mailbox.go",  // hand-over from the application to the loop
	"tx_batch.go",        // pool, and the one place where the loop writes to sockets
}

// TestCoreIsSansIO checks that the core cannot depend on anything but its input: it
// does not import I/O, locks or randomness, start goroutines, look at the clock, or
// range over maps, whose order differs from run to run.
func TestCoreIsSansIO(t *testing.T) {
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range driverFiles {
		if !slices.Contains(names, name) {
			t.Errorf("%s is listed as a driver file but does not exist", name)
		}
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Types: make(map[ast.Expr]types.TypeAndValue), Uses: make(map[*ast.Ident]types.Object)}
	config := types.Config{Importer: importer.ForCompiler(fset, "gc", exportData(t))}
	if _, err := config.Check("quic", fset, files, info); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !slices.Contains(driverFiles, fset.Position(f.Pos()).Filename) {
			checkSansIO(t, fset, info, f)
		}
	}
}

func checkSansIO(t *testing.T, fset *token.FileSet, info *types.Info, f *ast.File) {
	forbidden := []string{"crypto/rand", "math/rand", "math/rand/v2", "net", "os", "sync", "sync/atomic", "syscall"}
	for _, spec := range f.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		if slices.Contains(forbidden, path) || strings.HasPrefix(path, "golang.org/x/sys") {
			t.Errorf("%v: the core imports %s", fset.Position(spec.Pos()), path)
		}
	}
	clock := []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			t.Errorf("%v: the core starts a goroutine", fset.Position(n.Pos()))
		case *ast.RangeStmt:
			if _, ok := info.TypeOf(n.X).Underlying().(*types.Map); ok {
				t.Errorf("%v: the core ranges over a map", fset.Position(n.Pos()))
			}
		case *ast.Ident:
			fn, ok := info.Uses[n].(*types.Func)
			if ok && fn.Pkg() != nil && fn.Pkg().Path() == "time" && fn.Signature().Recv() == nil && slices.Contains(clock, fn.Name()) {
				t.Errorf("%v: the core calls time.%s", fset.Position(n.Pos()), fn.Name())
			}
		}
		return true
	})
}

// exportData returns a function that opens the export data of a dependency.
func exportData(t *testing.T) func(path string) (io.ReadCloser, error) {
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	files := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		files[path] = file
	}
	return func(path string) (io.ReadCloser, error) { return os.Open(files[path]) }
}
