// SPDX-License-Identifier: Apache-2.0

package udpio

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
)

// inNamespace runs f in a process of its own, in a network namespace of its own,
// whose loopback interface is up.
func inNamespace(t *testing.T, f func(t *testing.T, lo netlink.Link)) {
	const inside = "UDPIO_TEST_IN_NAMESPACE"
	if os.Getenv(inside) != "" {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			t.Fatal(err)
		}
		f(t, lo)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) {
		refused(t, "the kernel refuses a network namespace")
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP")) {
		refused(t, "in the namespace:\n", string(out))
	}
}

// refused skips the test because of what this machine lacks, or fails it where that
// must not be missing (see MQVPN_LAB_REQUIRED of package lab).
func refused(t *testing.T, why ...any) {
	t.Helper()
	if os.Getenv("MQVPN_LAB_REQUIRED") != "" {
		t.Fatal(why...)
	}
	t.Skip(why...)
}

// R9000-14-1: a datagram above the MTU is refused, not fragmented, and does not
// disturb the others.
func TestMessageTooLong(t *testing.T) {
	inNamespace(t, func(t *testing.T, lo netlink.Link) {
		const mtu = 1400
		if err := netlink.LinkSetMTU(lo, mtu); err != nil {
			t.Fatal(err)
		}
		for network, overhead := range map[string]int{"udp4": 28, "udp6": 48} {
			for _, opt := range []Options{{Device: "lo"}, {NoGSO: true}} {
				t.Run(fmt.Sprintf("%s/%+v", network, opt), func(t *testing.T) {
					from := mustListen(t, network, loopback[network], opt)
					to := mustListen(t, network, loopback[network], opt)
					run := func(segSize int) Run {
						return Run{Data: pattern(3*segSize, segSize), SegSize: segSize, Dst: to.LocalAddr()}
					}
					fits := run(mtu - overhead)
					for _, tooLong := range []Run{run(mtu - overhead + 1), {
						Data: make([]byte, mtu-overhead+1), SegSize: 65000, Dst: to.LocalAddr(),
					}} {
						n, err := from.WriteBatch([]Run{fits, tooLong, fits})
						if n != 1 || err != ErrMessageTooLong {
							t.Errorf("WriteBatch = %d, %v; want 1, %v", n, err, ErrMessageTooLong)
						}
					}
					for _, d := range receive(t, to, 6) {
						if len(d.data) != mtu-overhead {
							t.Errorf("got %d bytes", len(d.data))
						}
					}
					if s := from.Stats(); s.GSORefused != 0 || s.GSO == opt.NoGSO {
						t.Errorf("GSO is blamed: %+v", s)
					}
					want := 0
					if opt.Device != "" {
						want = mtu
					}
					if got := from.MTU(); got != want {
						t.Errorf("MTU = %d, want %d", got, want)
					}
				})
			}
		}
	})
}

// A socket on a slow interface: nothing is lost or repeated when WriteBatch stops at
// a full buffer, also amid a run, and the rest is sent when the socket is writable.
func TestWouldBlock(t *testing.T) {
	inNamespace(t, func(t *testing.T, lo netlink.Link) {
		if err := netlink.LinkSetMTU(lo, 1500); err != nil {
			t.Fatal(err)
		}
		slow := &netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: lo.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       100e6 / 8, // bytes per second
			Buffer:     20000,
			Limit:      64 << 20, // never full: it is the socket's buffer that shall be
		}
		if err := netlink.QdiscAdd(slow); err != nil {
			refused(t, "the kernel has no tbf: ", err)
		}
		for _, opt := range []Options{{}, {NoGSO: true}} {
			t.Run(fmt.Sprintf("%+v", opt), func(t *testing.T) {
				from := mustListen(t, "udp4", loopback["udp4"], opt)
				to := mustListen(t, "udp4", loopback["udp4"], opt)
				const runs, segments, segSize = 100, 40, 1000
				var batch []Run
				for i := range runs {
					data := pattern(segments*segSize, segSize)
					for off := 0; off < len(data); off += segSize {
						copy(data[off:], fmt.Sprintf("run %d at %d", i, off))
					}
					batch = append(batch, Run{Data: data, SegSize: segSize, Dst: to.LocalAddr()})
				}
				want := datagramsOf(from.LocalAddr(), batch)
				blocked, amid := 0, 0
				var writer sync.WaitGroup
				writer.Go(func() {
					for len(batch) > 0 {
						n, err := from.WriteBatch(batch)
						batch = batch[n:]
						if err == nil {
							continue
						}
						if err != ErrWouldBlock {
							t.Errorf("WriteBatch: %v", err)
							return
						}
						blocked++
						if len(batch[0].Data) < segments*segSize {
							amid++
						}
						if err := from.WaitWritable(); err != nil {
							t.Errorf("WaitWritable: %v", err)
							return
						}
					}
				})
				expect(t, to, want)
				writer.Wait()
				if blocked == 0 || amid == 0 && opt.NoGSO {
					t.Errorf("blocked %d times, %d amid a run", blocked, amid)
				}
			})
		}
		t.Run("Close", func(t *testing.T) {
			s := mustListen(t, "udp4", loopback["udp4"], Options{})
			run := []Run{{Data: make([]byte, 60000), SegSize: 1000, Dst: netip.MustParseAddrPort("127.0.0.1:9")}}
			for {
				if _, err := s.WriteBatch(run); err == ErrWouldBlock {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			// Whether it is closed before or while it waits, it ends.
			ended := make(chan error)
			go func() { ended <- s.WaitWritable() }()
			s.Close()
			if err := <-ended; err != nil && err != net.ErrClosed {
				t.Errorf("WaitWritable: %v", err)
			}
		})
	})
}
