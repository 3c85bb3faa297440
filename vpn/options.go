// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/mqvpn/mqvpn/quic"
)

// option is one thing that can be configured, under its three names.
type option struct {
	flag, short  string
	section, key string // in INI files
	json         string
	sides        sides
	arg          string // placeholder of the value in --help; "": a switch
	usage        string
	list         bool // may be given several times
	negated      bool // the flag is a switch for the opposite: --no-reconnect
	secret       bool // the value must not be repeated in messages
	reset        func(*Config)
	set          func(*Config, string) error // its error says what is accepted
}

// options is every key that exists, in the order of --help.
var options = []*option{
	{flag: "mode", json: "mode", section: "", key: "Mode", sides: bothSides, arg: "client|server",
		usage: "accepted for compatibility, must match the program", set: setMode},
	{flag: "server", short: "s", section: "Server", key: "Address", json: "server_addr", sides: clientSide, arg: "HOST:PORT", list: true,
		usage: "server to connect to; several are tried in order (required)",
		reset: func(c *Config) { c.Servers = nil }, set: setServers},
	{flag: "tls-server-name", section: "Server", key: "ServerName", json: "tls_server_name", sides: clientSide, arg: "NAME",
		usage: "name that the server's certificate must have (default: the host of --server)",
		set:   func(c *Config, v string) error { c.TLSServerName = v; return notEmpty(v) }},
	{flag: "insecure", short: "i", section: "Server", key: "Insecure", json: "insecure", sides: clientSide,
		usage: "accept any certificate: whoever is on the way can read and change everything",
		set:   setBool(func(c *Config) *bool { return &c.Insecure })},
	{flag: "pin", section: "Server", key: "Pin", json: "pin", sides: clientSide, arg: "SHA256",
		usage: "accept exactly the certificate whose public key has this SHA-256 (mqvpn-server init prints it)", set: setPin},
	{flag: "listen", short: "l", section: "Interface", key: "Listen", json: "listen", sides: serverSide, arg: "ADDR:PORT", list: true,
		usage: "UDP address to listen on (default 0.0.0.0:443 and [::]:443)",
		reset: func(c *Config) { c.Listen, c.listenIsDefault = nil, false }, set: setListen},
	{flag: "subnet", short: "n", section: "Interface", key: "Subnet", json: "subnet", sides: serverSide, arg: "PREFIX",
		usage: "IPv4 addresses inside the tunnel; the server takes the first (default 10.0.0.0/24)", set: setSubnet},
	{flag: "subnet6", short: "6", section: "Interface", key: "Subnet6", json: "subnet6", sides: serverSide, arg: "PREFIX",
		usage: "IPv6 addresses inside the tunnel (default none)", set: setSubnet6},
	{flag: "tun-name", short: "t", section: "Interface", key: "TunName", json: "tun_name", sides: bothSides, arg: "NAME",
		usage: "name of the tunnel interface (default mqvpn0)", set: setTunName},
	{flag: "mtu", section: "Interface", key: "MTU", json: "mtu", sides: bothSides, arg: "BYTES",
		usage: "largest packet inside the tunnel, 1280 to 1984 (default 0: automatic)", set: setMTU},
	{flag: "no-reconnect", section: "Interface", key: "Reconnect", json: "reconnect", sides: clientSide, negated: true,
		usage: "exit when the connection is lost instead of connecting again",
		set:   setBool(func(c *Config) *bool { return &c.Reconnect })},
	{flag: "reconnect-interval", section: "Interface", key: "ReconnectInterval", json: "reconnect_interval", sides: clientSide, arg: "SECONDS",
		usage: "time between two attempts to connect (default 5)", set: setReconnectInterval},
	{flag: "no-manage-routes", section: "Interface", key: "ManageRoutes", json: "manage_routes", sides: clientSide, negated: true,
		usage: "leave routes and rules alone; only the tunnel interface is made",
		set:   setBool(func(c *Config) *bool { return &c.ManageRoutes })},
	{flag: "nat", section: "Interface", key: "NAT", json: "nat", sides: serverSide, arg: "auto|off",
		usage: "forward clients' traffic with the server's addresses (nftables), undone at exit (default auto)", set: setNAT},
	{flag: "cert", short: "c", section: "TLS", key: "Cert", json: "cert_file", sides: serverSide, arg: "FILE",
		usage: "certificate chain, PEM (default server.crt)",
		set:   func(c *Config, v string) error { c.CertFile = v; return notEmpty(v) }},
	{flag: "key", short: "k", section: "TLS", key: "Key", json: "key_file", sides: serverSide, arg: "FILE",
		usage: "private key of the certificate, PEM (default server.key)",
		set:   func(c *Config, v string) error { c.KeyFile = v; return notEmpty(v) }},
	{flag: "auth-key", short: "a", section: "Auth", key: "Key", json: "auth_key", sides: bothSides, arg: "KEY", secret: true,
		usage: "pre-shared key; on a server one that clients without a user may share",
		set:   func(c *Config, v string) error { c.AuthKey = v; return checkKey(v) }},
	{flag: "user", short: "u", section: "Auth", key: "User", json: "users", sides: serverSide, arg: "NAME:KEY", list: true, secret: true,
		usage: "user who may connect; repeat for more",
		reset: func(c *Config) { c.Users = nil }, set: setUser},
	{flag: "max-clients", short: "M", section: "Auth", key: "MaxClients", json: "max_clients", sides: serverSide, arg: "N",
		usage: "clients at the same time (default 0: as many as there are addresses)", set: setMaxClients},
	{flag: "path", short: "p", section: "Multipath", key: "Path", json: "paths", sides: clientSide, arg: "IFACE", list: true,
		usage: "network interface to use; repeat for more; auto: each that has a default route, now or later; wl*: of these the ones that match; !docker*: not these; wwan0=backup: with the priority primary, secondary, backup or never (default: that of the default route)",
		reset: func(c *Config) { c.Paths, c.Priorities = nil, nil }, set: setPaths},
	{flag: "scheduler", short: "S", section: "Multipath", key: "Scheduler", json: "scheduler", sides: bothSides, arg: "wlb|minrtt|wlb_udp_pin|backup",
		usage: "how packets are spread over the paths (default wlb)", set: setScheduler},
	{flag: "cc", section: "Multipath", key: "CC", json: "cc", sides: bothSides, arg: "bbr|cubic|reno",
		usage: "congestion control of what this side sends (default bbr)", set: setCC},
	{flag: "control", section: "Control", key: "Listen", json: "control_listen", sides: bothSides, arg: "PATH",
		usage: "unix socket for \"status\"; off: none (default /run/mqvpn/TUNNAME.sock)",
		set:   func(c *Config, v string) error { c.Control = v; return notEmpty(v) }},
	{flag: "log-level", short: "L", section: "Interface", key: "LogLevel", json: "log_level", sides: bothSides, arg: "LEVEL",
		usage: "debug, info, warn or error (default info)", set: setLogLevel},
}

func optionByFlag(flag string) *option {
	for _, o := range options {
		if o.flag == flag {
			return o
		}
	}
	panic("BUG: no option --" + flag)
}

func notEmpty(v string) error {
	if v == "" {
		return errors.New("must not be empty")
	}
	return nil
}

func parseBool(v string) (bool, error) {
	switch strings.ToLower(v) {
	case "true", "yes", "on", "1":
		return true, nil
	case "false", "no", "off", "0":
		return false, nil
	}
	return false, errors.New("want true or false")
}

func setBool(field func(*Config) *bool) func(*Config, string) error {
	return func(c *Config, v string) (err error) {
		*field(c), err = parseBool(v)
		return err
	}
}

func setMode(c *Config, v string) error {
	if Mode(v) != c.Mode {
		return fmt.Errorf("this program is the %s: want %s, or start the other program", c.Mode, c.Mode)
	}
	return nil
}

func setServers(c *Config, v string) error {
	for s := range strings.SplitSeq(v, ",") {
		e, err := parseServerAddr(strings.TrimSpace(s))
		if err != nil {
			return err
		}
		c.Servers = append(c.Servers, e)
	}
	return nil
}

// parseServerAddr reads HOST, HOST:PORT, an address, or [IPv6]:PORT.
func parseServerAddr(s string) (ServerAddr, error) {
	bad := errors.New("want HOST:PORT, for instance vpn.example.com:443 or [2001:db8::1]:443")
	host, port := s, strconv.Itoa(defaultPort)
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		host = strings.Trim(s, "[]")
	} else if strings.Contains(s, ":") {
		if host, port, err = net.SplitHostPort(s); err != nil {
			return ServerAddr{}, bad
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, " /[]") {
		return ServerAddr{}, bad
	}
	return ServerAddr{Host: host, Port: uint16(n)}, nil
}

func setPin(c *Config, v string) error {
	v = strings.TrimPrefix(v, "sha256:")
	pin, err := hex.DecodeString(strings.ReplaceAll(v, ":", ""))
	if err != nil {
		pin, err = base64.StdEncoding.DecodeString(v)
	}
	if err != nil || len(pin) != 32 {
		return errors.New("want the SHA-256 of the certificate's public key: 64 hexadecimal digits or 44 characters of base64")
	}
	c.Pin = pin
	return nil
}

func setListen(c *Config, v string) error {
	for s := range strings.SplitSeq(v, ",") {
		s = strings.TrimSpace(s)
		a, err := netip.ParseAddrPort(s)
		if err != nil && strings.HasPrefix(s, ":") {
			port, perr := strconv.ParseUint(s[1:], 10, 16)
			if perr == nil {
				c.Listen = append(c.Listen,
					netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port)),
					netip.AddrPortFrom(netip.IPv6Unspecified(), uint16(port)))
				continue
			}
		}
		if err != nil {
			return errors.New("want ADDRESS:PORT, for instance 0.0.0.0:443 or [::]:443")
		}
		c.Listen = append(c.Listen, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	return nil
}

func setSubnet(c *Config, v string) error {
	p, err := netip.ParsePrefix(v)
	if err != nil || !p.Addr().Is4() || p.Bits() < 8 || p.Bits() > 30 {
		return errors.New("want an IPv4 prefix of 8 to 30 bits, for instance 10.0.0.0/24")
	}
	c.Subnet = p.Masked()
	return nil
}

func setSubnet6(c *Config, v string) error {
	p, err := netip.ParsePrefix(v)
	if err != nil || !p.Addr().Is6() || p.Addr().Is4In6() || p.Bits() < 32 || p.Bits() > 126 || p.Addr().IsLinkLocalUnicast() {
		return errors.New("want an IPv6 prefix of 32 to 126 bits, for instance fd12:3456:789a::/64")
	}
	c.Subnet6 = p.Masked()
	return nil
}

func setTunName(c *Config, v string) error {
	const maxLen = 15 // IFNAMSIZ - 1
	if v == "" || len(v) > maxLen || v == "." || v == ".." || strings.ContainsAny(v, "/: \t%\"") {
		return errors.New("want an interface name of 1 to 15 characters without / : % and blanks")
	}
	c.TunName = v
	return nil
}

func setMTU(c *Config, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n != 0 && n < minMTU {
		return fmt.Errorf("want %d to %d bytes, or 0 for automatic", minMTU, maxMTU)
	}
	if n > maxMTU {
		c.Warnings = append(c.Warnings, fmt.Sprintf("MTU %d is more than this program carries; using %d", n, maxMTU))
		n = maxMTU
	}
	c.MTU = n
	return nil
}

func setReconnectInterval(c *Config, v string) error {
	d, err := time.ParseDuration(v)
	if err != nil {
		d, err = time.ParseDuration(v + "s")
	}
	if err != nil || d < 100*time.Millisecond || d > time.Hour {
		return errors.New("want seconds from 0.1 to 3600")
	}
	c.ReconnectInterval = d
	return nil
}

func setNAT(c *Config, v string) error {
	if v != "auto" && v != "off" {
		return errors.New("want auto or off")
	}
	c.NAT = v == "auto"
	return nil
}

// checkKey: a key travels in an HTTP header field.
func checkKey(v string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' }
	if v == "" || len(v) > 255 || strings.ContainsFunc(v, bad) {
		return errors.New("want 1 to 255 printable ASCII characters without blanks; \"genkey\" makes a good one")
	}
	return nil
}

func setUser(c *Config, v string) error {
	name, key, ok := strings.Cut(v, ":")
	if !ok || name == "" || len(name) > 63 || strings.ContainsAny(name, " \t\"\\") {
		return errors.New("want NAME:KEY with a name of 1 to 63 characters without blanks and quotes")
	}
	c.Users = append(c.Users, User{Name: name, Key: key})
	return checkKey(key)
}

func setMaxClients(c *Config, v string) error {
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 {
		return errors.New("want a number of clients, or 0 for as many as there are addresses")
	}
	c.MaxClients = n
	return nil
}

func setPaths(c *Config, v string) error {
	for name := range strings.SplitSeq(v, ",") {
		if name = strings.TrimSpace(name); name == "" {
			return errors.New("want the name of a network interface, auto, or a pattern such as wl* or !docker*")
		}
		name, priority, ordered := strings.Cut(name, "=")
		if ordered {
			p, err := parsePriority(priority)
			if err != nil {
				return fmt.Errorf("interface %s: %w", name, err)
			}
			c.Priorities = append(c.Priorities, pathPriority{name, p})
		}
		if _, err := path.Match(strings.TrimPrefix(name, "!"), ""); err != nil || name == "!" {
			return fmt.Errorf("pattern %s: want a name with *, ? or [a-z] in it, after a ! if these interfaces are to be left out", name)
		}
		for _, p := range c.Paths {
			if p == name {
				return fmt.Errorf("interface %s is there twice", name)
			}
		}
		c.Paths = append(c.Paths, name)
	}
	return nil
}

func setScheduler(c *Config, v string) error {
	switch v {
	case "wlb", "minrtt", "wlb_udp_pin", "backup":
	default:
		return errors.New("want wlb, minrtt, wlb_udp_pin or backup")
	}
	c.Scheduler = v
	return nil
}

func setCC(c *Config, v string) error {
	name := v
	switch v {
	case "none":
		name = quic.CongestionControl(0).String()
		c.Warnings = append(c.Warnings, "cc none: there is no sending without congestion control; using "+name)
	case "bbr2":
		name = quic.BBR.String()
	}
	cc, err := quic.ParseCongestionControl(name)
	if err != nil {
		return errors.New("want bbr, cubic or reno")
	}
	c.CongestionControl = cc
	return nil
}

func setLogLevel(c *Config, v string) error {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	l, ok := levels[strings.ToLower(v)]
	if !ok {
		return errors.New("want debug, info, warn or error")
	}
	c.LogLevel = l
	return nil
}
