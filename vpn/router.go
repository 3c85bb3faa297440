// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/mqvpn/mqvpn/masque"
	"github.com/mqvpn/mqvpn/quic"
)

// outlet is the way into one session for packets from the TUN device.
type outlet struct {
	session *masque.Session
	pending []*quic.PacketBuf // of the batch at work; owned by the TUN reader
}

// router finds the session for a packet from the TUN device and sends whole
// batches to each. Lookups take no lock: the table is replaced as a whole.
type router struct {
	table atomic.Pointer[routeTable]
	mu    sync.Mutex // held by those who replace the table

	noRoute atomic.Uint64 // packets to nobody
}

// routeTable is immutable.
type routeTable struct {
	byAddr map[netip.Addr]*outlet
	any    *outlet // for all other destinations; a client has only this
}

func newRouter() *router {
	r := new(router)
	r.table.Store(&routeTable{})
	return r
}

// setDefault makes o the outlet for everything; nil: for nothing.
func (r *router) setDefault(o *outlet) { r.replace(func(t *routeTable) { t.any = o }) }

// add routes packets to these addresses to o.
func (r *router) add(o *outlet, addrs ...netip.Addr) {
	r.replace(func(t *routeTable) {
		for _, a := range addrs {
			t.byAddr[a] = o
		}
	})
}

// remove takes back what add did, except for addresses that are somebody else's by now.
func (r *router) remove(o *outlet) {
	r.replace(func(t *routeTable) {
		maps.DeleteFunc(t.byAddr, func(_ netip.Addr, x *outlet) bool { return x == o })
	})
}

func (r *router) replace(edit func(*routeTable)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.table.Load()
	t := &routeTable{byAddr: maps.Clone(old.byAddr), any: old.any}
	if t.byAddr == nil {
		t.byAddr = map[netip.Addr]*outlet{}
	}
	edit(t)
	r.table.Store(t)
}

// find returns the outlet for a packet, or nil.
func (t *routeTable) find(pkt []byte) *outlet {
	if len(t.byAddr) == 0 {
		return t.any
	}
	if dst, ok := destination(pkt); ok {
		if o := t.byAddr[dst]; o != nil {
			return o
		}
	}
	return t.any
}

func destination(pkt []byte) (netip.Addr, bool) {
	switch {
	case len(pkt) >= 20 && pkt[0]>>4 == 4:
		return netip.AddrFrom4([4]byte(pkt[16:20])), true
	case len(pkt) >= 40 && pkt[0]>>4 == 6:
		return netip.AddrFrom16([16]byte(pkt[24:40])), true
	}
	return netip.Addr{}, false
}

// tunReader reads packets from the TUN device and routes them. It never waits for a
// session: what a connection cannot take it drops and counts.
type tunReader struct {
	dev    tunDevice
	router *router

	packets, bytes atomic.Uint64
	err            error // that ended run; valid after that

	bufs    []*quic.PacketBuf
	space   [][]byte
	sizes   []int
	touched []*outlet
}

func newTUNReader(dev tunDevice, r *router) *tunReader {
	n := dev.BatchSize()
	return &tunReader{
		dev:    dev,
		router: r,
		bufs:   make([]*quic.PacketBuf, n),
		space:  make([][]byte, n),
		sizes:  make([]int, n),
	}
}

// run reads until the device is closed, or fails because it was deleted; err says which.
func (t *tunReader) run() {
	for {
		if !t.batch() {
			break
		}
	}
	for i, b := range t.bufs {
		if b != nil {
			b.Release()
			t.bufs[i] = nil
		}
	}
}

// batch moves what is waiting in the device. It reports false when that is closed.
func (t *tunReader) batch() bool {
	quic.FillPacketBufs(t.bufs)
	for i, b := range t.bufs {
		t.space[i] = b.Space()
	}
	n, err := t.dev.Read(t.space, t.sizes, 0)
	if err != nil {
		t.err = err
		return false
	}
	table := t.router.table.Load()
	var bytes, lost uint64
	for i := range n {
		b := t.bufs[i]
		pkt := t.space[i][:t.sizes[i]]
		bytes += uint64(len(pkt))
		o := table.find(pkt)
		if o == nil {
			lost++
			continue // the buffer is used again
		}
		b.SetLen(len(pkt))
		b.Flow, b.Class = flowKey(pkt)
		b.Mark = ecnMarker(pkt)
		masque.ClampMSS(pkt, o.session.MTU())
		if len(o.pending) == 0 {
			t.touched = append(t.touched, o)
		}
		o.pending = append(o.pending, b)
		t.bufs[i] = nil
	}
	for i, o := range t.touched {
		o.session.Send(o.pending)
		clear(o.pending)
		o.pending = o.pending[:0]
		t.touched[i] = nil
	}
	t.touched = t.touched[:0]
	t.packets.Add(uint64(n))
	t.bytes.Add(bytes)
	t.router.noRoute.Add(lost)
	return true
}
