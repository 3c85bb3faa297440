// SPDX-License-Identifier: Apache-2.0

//go:build linux

package lab

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestHostsAreApart(t *testing.T) {
	Require(t)
	a, b := newTestHost(t, "a"), newTestHost(t, "b")
	for _, h := range []*Host{a, b} {
		// The same port can be taken in each.
		l, err := h.Listen("tcp4", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := h.Dial(t.Context(), "tcp4", "127.0.0.1:80")
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	if err := a.SetSysctl("net/ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	if v, err := b.Sysctl("net/ipv4/ip_forward"); err != nil || v != "0" {
		t.Errorf("ip_forward in another host: %q, %v", v, err)
	}
}

func TestSocketsUseCubic(t *testing.T) {
	Require(t)
	h := newTestHost(t, "a")
	l, err := h.Listen("tcp4", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := h.Dial(t.Context(), "tcp4", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, conn := range []net.Conn{c, s} {
		raw, err := conn.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			name, err := unix.GetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION)
			if err != nil || name != innerCongestionControl {
				t.Errorf("congestion control %q, %v", name, err)
			}
		})
	}
}

func TestProcess(t *testing.T) {
	Require(t)
	h := newTestHost(t, "a")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, code, err := h.Run(ctx, Command{Path: "/bin/sh", Args: []string{"-c", "echo $WORD; exit 3"}, Env: []string{"WORD=hello"}})
	if out != "hello\n" || code != 3 || err != nil {
		t.Errorf("output %q, exit code %d, %v", out, code, err)
	}

	p, err := h.Start(Command{Path: "/bin/sh", Args: []string{"-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.01; done"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.WaitOutput(ctx, "up\n"); err != nil {
		t.Fatal(err)
	}
	if u, err := p.Usage(); err != nil || u.RSS == 0 || u.PeakRSS < u.RSS {
		t.Errorf("usage %+v, %v", u, err)
	}
	if code, err := p.Stop(time.Minute); code != 7 || err != nil {
		t.Errorf("exit code %d after SIGTERM, %v", code, err)
	}
	if err := p.WaitOutput(ctx, "never"); err == nil {
		t.Error("waited for output of a process that has ended")
	}
}

func TestClosedHost(t *testing.T) {
	Require(t)
	h, err := NewHost("a")
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.Start(Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		t.Fatal(err)
	}
	h.Close()
	<-p.Done() // killed with the host's thread
	if err := h.Do(func() error { return nil }); !errors.Is(err, errHostClosed) {
		t.Errorf("Do on a closed host: %v", err)
	}
}

func TestParseUsage(t *testing.T) {
	u, err := parseUsage([]byte("Name:\ta\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"))
	if want := (Usage{RSS: 1 << 20, PeakRSS: 2 << 20}); u != want || err != nil {
		t.Errorf("got %+v, %v, want %+v", u, err, want)
	}
	if _, err := parseUsage([]byte("Name:\ta\nState:\tZ (zombie)\n")); err == nil {
		t.Error("a process that has ended was accepted")
	}
}

// TestProcessClock: the clock of another process shows what that has consumed.
func TestProcessClock(t *testing.T) {
	var own, other unix.Timespec
	unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &own)
	if err := unix.ClockGettime(processClock(os.Getpid()), &other); err != nil || other.Nano() < own.Nano() {
		t.Errorf("%d ns of processor time, %v; it was %d before", other.Nano(), err, own.Nano())
	}
}

// victimVariable makes the test binary build a lab and wait to be killed.
const victimVariable = "MQVPN_LAB_TEST_VICTIM"

// TestKilledLabLeavesNothing kills a process that holds a whole lab, and compares
// what the machine then shows with what it showed before.
func TestKilledLabLeavesNothing(t *testing.T) {
	Require(t)
	if os.Getenv(victimVariable) != "" {
		beVictim(t)
		return
	}
	before := machineState(t)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilledLabLeavesNothing$")
	cmd.Env = append(os.Environ(), victimVariable+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	child, err2 := strconv.Atoi(strings.TrimSpace(line))
	if err := errors.Join(err, err2); err != nil {
		t.Fatalf("victim said %q: %v", line, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	for syscall.Kill(child, 0) == nil { // until the kernel has killed it too
		time.Sleep(time.Millisecond)
	}
	if after := machineState(t); !slices.Equal(before, after) {
		t.Errorf("before:\n%s\nafter:\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
}

// beVictim builds a lab with a process in it, prints the process's id, and waits.
func beVictim(t *testing.T) {
	fast := Symmetric("l", 0, 0, 0)
	n, err := NewInternet(InternetConfig{Clients: [][]LinkConfig{{fast, fast}}})
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.Clients[0].Start(Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		t.Fatal(err)
	}
	os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
	select {}
}

// machineState lists what a lab could leave behind: interfaces, mounts, named
// namespaces.
func machineState(t *testing.T) (state []string) {
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		state = append(state, "interface "+i.Name)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	named, _ := os.ReadDir("/run/netns") // usually not there
	for _, n := range named {
		state = append(state, "namespace "+n.Name())
	}
	return append(state, strings.Split(string(mounts), "\n")...)
}

func TestInternet(t *testing.T) {
	Require(t)
	link := Symmetric("l", 100e6, time.Millisecond, 50*time.Millisecond)
	n, err := NewInternet(InternetConfig{Clients: [][]LinkConfig{{link, link}, {link}}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	ping := func(h *Host, dst netip.Addr) int {
		r, err := h.Ping(t.Context(), dst, 1, 84, time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		return r.Received()
	}
	var unexpected atomic.Int64
	n.Links[0][1].Observe(AtoB, func(frame []byte) {
		if frame[0]&1 == 0 { // the kernel's own reports are multicast
			unexpected.Add(1)
		}
	})
	for _, client := range n.Clients {
		for _, dst := range []netip.Addr{ServerAddr4, ServerAddr6} {
			if ping(client, dst) != 1 {
				t.Errorf("%s cannot reach %s", client.Name(), dst)
			}
		}
	}
	for _, dst := range []netip.Addr{InsideAddr4, InsideAddr6} {
		if ping(n.Server, dst) != 1 {
			t.Errorf("the server cannot reach %s", dst)
		}
	}
	if ping(n.Clients[0], InsideAddr4) != 0 {
		t.Error("a client reaches the inside without a tunnel")
	}
	if got := unexpected.Load(); got != 0 {
		t.Errorf("the second link carried %d packets although its routes are worse", got)
	}
}

func TestChangeAddress(t *testing.T) {
	Require(t)
	n, err := NewInternet(InternetConfig{Clients: [][]LinkConfig{{Symmetric("l", 0, time.Millisecond, 0)}}})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	addrs := func() (s []string) {
		lines, err := n.Clients[0].Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			if strings.HasPrefix(l, "address 10.") {
				s = append(s, l)
			}
		}
		return s
	}
	for _, want := range []string{"10.100.1.3/24", "10.100.1.2/24"} {
		if err := n.ChangeAddress(0, 0); err != nil {
			t.Fatal(err)
		}
		if got := addrs(); len(got) != 1 || got[0] != "address "+want+" on eth0" {
			t.Errorf("addresses %q, want %s", got, want)
		}
		for _, dst := range []netip.Addr{ServerAddr4, ServerAddr6} {
			if r, err := n.Clients[0].Ping(t.Context(), dst, 1, 84, time.Millisecond); err != nil || r.Received() != 1 {
				t.Errorf("with %s: no answer from %s, %v", want, dst, err)
			}
		}
	}
}

func TestSnapshotSeesEachKindOfChange(t *testing.T) {
	Require(t)
	a, b := newTestHost(t, "a"), newTestHost(t, "b")
	snapshot := func() []string {
		s, err := a.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	changes := []struct {
		name string
		make func() error
	}{
		{"interface", func() error {
			return NewCable(Port{a, "eth0", prefixes("10.1.0.2/24")}, Port{b, "eth0", prefixes("10.1.0.1/24")}, 1500)
		}},
		{"address", func() error { return a.AddAddr("eth0", netip.MustParsePrefix("fd01::2/64")) }},
		{"route", func() error {
			return a.AddRoute(Route{Dst: netip.MustParsePrefix("10.2.0.0/16"), Via: netip.MustParseAddr("10.1.0.1"), Interface: "eth0"})
		}},
		{"rule", func() error {
			return a.Do(func() error {
				r := netlink.NewRule()
				r.Src, r.Table = ipNet(netip.MustParsePrefix("10.1.0.2/32")), 77
				return netlink.RuleAdd(r)
			})
		}},
		{"nftables", func() error {
			return a.Do(func() error {
				var c nftables.Conn
				c.AddTable(&nftables.Table{Name: "t", Family: nftables.TableFamilyINet})
				return c.Flush()
			})
		}},
		{"sysctl", a.EnableForwarding},
	}
	for _, c := range changes {
		before := snapshot()
		if again := snapshot(); !slices.Equal(before, again) {
			t.Fatalf("two snapshots of the same host differ:\n%q\n%q", before, again)
		}
		if err := c.make(); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if slices.Equal(before, snapshot()) {
			t.Errorf("a new %s is not in the snapshot", c.name)
		}
	}
}

func TestRunIsTheHostsOwn(t *testing.T) {
	Require(t)
	a, b := newTestHost(t, "a"), newTestHost(t, "b")
	const name = "/run/lab/file"
	if err := a.WriteFile(name, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		host *Host
		want int
	}{{a, 0}, {b, 1}} {
		if _, code, err := test.host.Run(t.Context(), Command{Path: "/bin/sh", Args: []string{"-c", "test -e " + name}}); code != test.want || err != nil {
			t.Errorf("%s: exit code %d, want %d, %v", test.host.Name(), code, test.want, err)
		}
	}
	if _, err := os.Stat(name); err == nil {
		t.Error("a file in a host's /run is on the machine")
	}
}

func TestHTTP(t *testing.T) {
	Require(t)
	h := newTestHost(t, "a")
	stop, err := h.ServeHTTP("127.0.0.1:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	r, err := h.HTTPClient().Get("http://127.0.0.1/page")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if body, err := io.ReadAll(r.Body); string(body) != "/page" || err != nil {
		t.Errorf("got %q, %v", body, err)
	}
}

// The programs under test must not profit from the priority of the emulator.
func TestProcessesHaveNoPriority(t *testing.T) {
	a, _, _ := twoHosts(t, Symmetric("l", 0, 0, 0))
	p, err := a.Start(Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err != nil {
		t.Fatal(err)
	}
	attr, err := unix.SchedGetAttr(p.PID(), 0)
	if err != nil || attr.Policy != unix.SCHED_NORMAL {
		t.Errorf("scheduling policy %d, %v", attr.Policy, err)
	}
}
