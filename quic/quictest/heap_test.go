// SPDX-License-Identifier: Apache-2.0

package quictest

import (
	"runtime"
	"testing"
)

func TestHeapInUse(t *testing.T) {
	const size = 8 << 20
	before := HeapInUse()
	b := make([]byte, size)
	held := HeapInUse()
	runtime.KeepAlive(b)
	b = nil
	if after := HeapInUse(); held-before < size*3/4 || after-before > size/4 {
		t.Errorf("%d bytes, %d more are allocated: %d; afterwards %d", before, size, held, after)
	}
}
