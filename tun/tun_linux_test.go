// SPDX-License-Identifier: Apache-2.0

package tun_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/mqvpn/mqvpn/tun"
	"github.com/mqvpn/mqvpn/tun/tuntest"
)

// open makes a device with an IPv4 and an IPv6 address that is up.
func open(t *testing.T) *tun.Device {
	t.Helper()
	return openForm(t, tun.Create)
}

func openForm(t *testing.T, create func(string) (*tun.Device, error)) *tun.Device {
	t.Helper()
	d, err := create("mqtest%d")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	for _, err := range []error{
		d.SetMTU(1400),
		d.AddAddress(netip.MustParsePrefix("10.9.0.1/24")),
		d.AddAddress(netip.MustParsePrefix("fd09::1/64")),
		d.Up(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return d
}

func TestDeviceConfiguration(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	d := open(t)
	if d.Name() != "mqtest0" {
		t.Errorf("name %q, want mqtest0", d.Name())
	}
	if mtu, err := d.MTU(); mtu != 1400 || err != nil {
		t.Errorf("MTU() = %d, %v", mtu, err)
	}
	link, err := netlink.LinkByName(d.Name())
	if err != nil {
		t.Fatal(err)
	}
	if n := link.Attrs().TxQLen; n != 1000 {
		t.Errorf("%d packets may wait to be read, want 1000", n)
	}
	want := map[string]bool{"10.9.0.1/24": true, "fd09::1/64": true}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if !want[a.IPNet.String()] {
			t.Errorf("unexpected address %s (a link-local one means that addr_gen_mode was not set)", a.IPNet)
		}
		delete(want, a.IPNet.String())
	}
	if len(want) > 0 {
		t.Errorf("missing addresses: %v", want)
	}
	if err := d.AddAddress(netip.MustParsePrefix("10.9.0.1/24")); err != nil {
		t.Errorf("adding an address twice: %v", err)
	}
	if err := d.RemoveAddress(netip.MustParsePrefix("10.9.0.1/24")); err != nil {
		t.Errorf("RemoveAddress: %v", err)
	}
	if _, err := tun.Create(d.Name()); !errors.Is(err, tun.ErrBusy) {
		t.Errorf("second device of the same name: %v, want ErrBusy", err)
	}
	if _, err := tun.Create("lo"); err == nil {
		t.Error("made a device named lo")
	}
	if _, err := tun.Create("a-name-that-is-too-long"); err == nil {
		t.Error("accepted a name of more than 15 bytes")
	}
	d.Close()
	if _, err := netlink.LinkByName("mqtest0"); err == nil {
		t.Error("interface still there after Close")
	}
}

// TestMTUBelowIPv6: the kernel ends IPv6 on an interface whose MTU falls below 1280.
// Taking the address away after that is no error, and when the MTU has grown IPv6
// works again, without an address that the kernel made up.
func TestMTUBelowIPv6(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	d := open(t)
	inner := netip.MustParsePrefix("fd09::1/64")
	if err := d.SetMTU(1200); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.RemoveAddress(inner); err != nil {
			t.Errorf("remove the IPv6 address: %v", err)
		}
		if err := d.RemoveAddress(netip.MustParsePrefix("10.9.0.1/24")); err != nil {
			t.Errorf("remove the IPv4 address: %v", err)
		}
	}
	if err := d.SetMTU(1400); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := d.AddAddress(inner); err != nil {
			t.Fatal(err)
		}
	}
	link, err := netlink.LinkByName(d.Name())
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := netlink.AddrList(link, netlink.FAMILY_ALL)
	if err != nil || len(addrs) != 1 || addrs[0].IPNet.String() != inner.String() {
		t.Errorf("addresses %v, %v; want %v", addrs, err, inner)
	}
}

// TestExistingDevice: an interface that somebody made before, and that would outlive
// the program, is not taken over.
func TestExistingDevice(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "mqtest7"
	if err := netlink.LinkAdd(&netlink.Tuntap{LinkAttrs: attrs, Mode: netlink.TUNTAP_MODE_TUN}); err != nil {
		t.Fatal(err)
	}
	if _, err := tun.Create("mqtest7"); !errors.Is(err, tun.ErrBusy) {
		t.Errorf("device on top of a persistent one: %v, want ErrBusy", err)
	}
}

// TestDeletedDevice: Read tells that the interface was deleted.
func TestDeletedDevice(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	d := open(t)
	done := make(chan error)
	go func() {
		_, err := d.Read([][]byte{make([]byte, 1500)}, make([]int, 1), 0)
		done <- err
	}()
	link, err := netlink.LinkByName(d.Name())
	if err == nil {
		err = netlink.LinkDel(link)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil || errors.Is(err, os.ErrClosed) {
		t.Errorf("Read on a deleted interface: %v", err)
	}
}

// TestDeviceBatches sends UDP datagrams into the device, reads them in batches and
// writes them back with the addresses swapped.
func TestDeviceBatches(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	for name, create := range forms {
		t.Run(name, func(t *testing.T) { testBatches(t, create) })
	}
}

func testBatches(t *testing.T, create func(string) (*tun.Device, error)) {
	d := openForm(t, create)
	defer d.Close()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.9.0.2:7")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const packets, offset = 20, 32
	for i := range packets {
		if _, err := conn.Write([]byte{byte(i), 0xaa}); err != nil {
			t.Fatal(err)
		}
	}
	bufs, sizes := make([][]byte, 8), make([]int, 8)
	for i := range bufs {
		bufs[i] = make([]byte, offset+1500)
	}
	for got := 0; got < packets; {
		n, err := d.Read(bufs, sizes, offset)
		if err != nil {
			t.Fatal(err)
		}
		if left := packets - got; n != min(left, len(bufs)) {
			t.Fatalf("Read returned %d packets while %d were waiting", n, left)
		}
		var reply [][]byte
		for i, b := range bufs[:n] {
			pkt := b[offset : offset+sizes[i]]
			if len(pkt) != 30 || pkt[28] != byte(got+i) {
				t.Fatalf("packet %d: % x", got+i, pkt)
			}
			swap(pkt[12:16], pkt[16:20]) // addresses; the checksums stay right
			swap(pkt[20:22], pkt[22:24]) // ports
			reply = append(reply, b[:offset+sizes[i]])
		}
		bad := bytes.Repeat([]byte{0xff}, offset+20) // IP version 15
		n, err = d.Write(append([][]byte{bad}, reply...), offset)
		if n != len(reply) || !errors.Is(err, syscall.EINVAL) {
			t.Fatalf("Write = %d, %v; want %d packets taken and EINVAL for the first", n, err, len(reply))
		}
		got += len(reply)
	}
	var b [100]byte
	for i := range packets {
		if n, err := conn.Read(b[:]); n != 2 || b[0] != byte(i) || err != nil {
			t.Fatalf("reply %d: % x, %v", i, b[:n], err)
		}
	}
}

func swap(a, b []byte) {
	for i := range a {
		a[i], b[i] = b[i], a[i]
	}
}

func TestDeviceCloseEndsRead(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	d := open(t)
	done := make(chan error)
	go func() {
		_, err := d.Read([][]byte{make([]byte, 1500)}, make([]int, 1), 0)
		done <- err
	}()
	d.Close()
	if err := <-done; !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read after Close: %v, want os.ErrClosed", err)
	}
	if _, err := d.Write([][]byte{make([]byte, 20)}, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Write after Close: %v, want os.ErrClosed", err)
	}
}

func TestDeviceAllocs(t *testing.T) {
	if !tuntest.Isolate(t) {
		return
	}
	for name, create := range forms {
		t.Run(name, func(t *testing.T) { testAllocs(t, create) })
	}
}

func testAllocs(t *testing.T, create func(string) (*tun.Device, error)) {
	d := openForm(t, create)
	defer d.Close()
	// An IPv4 packet for a closed port of this host; ICMP goes back, read or not.
	pkt := make([]byte, 28)
	pkt[0], pkt[8], pkt[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(pkt[2:], uint16(len(pkt)))
	bufs := [][]byte{pkt}
	if n := testing.AllocsPerRun(100, func() { d.Write(bufs, 0) }); n != 0 {
		t.Errorf("Write allocates %v times", n)
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(netip.MustParseAddrPort("10.9.0.2:7")))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in, sizes := [][]byte{make([]byte, 1500)}, make([]int, 1)
	for range 100 {
		conn.Write([]byte{1})
	}
	if n := testing.AllocsPerRun(90, func() { d.Read(in, sizes, 0) }); n != 0 {
		t.Errorf("Read allocates %v times", n)
	}
}
