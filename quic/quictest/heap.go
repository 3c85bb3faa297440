// SPDX-License-Identifier: Apache-2.0

package quictest

import "runtime"

// HeapInUse returns the size of all reachable objects in bytes, for tests of what a peer
// can make an endpoint hold. It empties all pools, and means nothing with the race detector.
func HeapInUse() int {
	var m runtime.MemStats
	for range 3 { // pools are emptied by the second
		runtime.GC()
	}
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}
