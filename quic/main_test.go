// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain fails when a test has left a goroutine running or a pooled buffer out.
func TestMain(m *testing.M) {
	code := m.Run()
	if leak := leaked(); code == 0 && leak != "" {
		fmt.Fprintln(os.Stderr, leak)
		code = 1
	}
	os.Exit(code)
}

// leaked describes what is still in use, once that has stopped to change.
func leaked() (what string) {
	for range 100 {
		what = leakedGoroutines()
		for name, n := range map[string]int64{
			"PacketBuf": packetBufsOut.Load(), "rxChunk": rxChunksOut.Load(), "transmit buffer": txBuffersOut.Load(),
		} {
			if n != 0 {
				what += fmt.Sprintf("%d of type %s were not released\n", n, name)
			}
		}
		if what == "" {
			return ""
		}
		time.Sleep(10 * time.Millisecond)
	}
	return what
}

// leakedGoroutines returns the stacks of the goroutines that run code of this module.
func leakedGoroutines() string {
	buf := make([]byte, 1<<20)
	var leaked strings.Builder
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		if strings.Contains(g, "mqvpn/quic") && !strings.Contains(g, "quic.TestMain") {
			leaked.WriteString("leaked " + g + "\n\n")
		}
	}
	return leaked.String()
}
