// SPDX-License-Identifier: Apache-2.0

package vpn

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/mqvpn/mqvpn/quic"
)

// Mode says which end of the tunnel a program is.
type Mode string

const (
	ModeClient Mode = "client"
	ModeServer Mode = "server"
)

// sides is a set of modes, for options that only one end has.
type sides uint8

const (
	clientSide sides = 1 << iota
	serverSide
	bothSides = clientSide | serverSide
)

func (m Mode) side() sides {
	if m == ModeServer {
		return serverSide
	}
	return clientSide
}

// program is the name of the binary.
func (m Mode) program() string { return "mqvpn-" + string(m) }

const (
	// minMTU is what IPv6 asks of every link.
	minMTU = 1280
	// maxMTU is what fits a packet buffer of package quic with its headroom.
	maxMTU = 1984

	defaultPort = 443
)

var defaultSubnet = netip.MustParsePrefix("10.0.0.0/24")

// User is one who may connect to a server.
type User struct {
	Name string // 1 to 63 bytes
	Key  string // pre-shared key, 1 to 255 bytes
}

// Config is the configuration of a client or a server, after command line,
// file and defaults were put together and checked.
type Config struct {
	Mode     Mode
	TunName  string
	MTU      int // bytes, minMTU to maxMTU; 0: automatic
	LogLevel slog.Level
	AuthKey  string // the client's key; on a server a key that anyone may share
	// Scheduler is "wlb", "minrtt", "wlb_udp_pin" or "backup".
	Scheduler string
	// CongestionControl is of what this side sends.
	CongestionControl quic.CongestionControl
	// Control is the path of the control socket; "": chosen from TunName, "off": none.
	Control string

	// Of a client:

	Servers           []ServerAddr // tried in order
	TLSServerName     string       // "": the host of the server
	Insecure          bool
	Pin               []byte   // SHA-256 of the certificate's SubjectPublicKeyInfo; nil: none
	Paths             []string // interface names and patterns; none: that of the default route
	Priorities        []pathPriority
	Reconnect         bool
	ReconnectInterval time.Duration
	ManageRoutes      bool

	// Of a server:

	Listen            []netip.AddrPort
	Subnet            netip.Prefix
	Subnet6           netip.Prefix // zero: no IPv6 inside
	NAT               bool
	CertFile, KeyFile string
	Users             []User
	MaxClients        int // 0: what the pool holds

	// Warnings are to be logged when the program starts.
	Warnings []string

	// listenIsDefault: an address family that the host does not have is no error.
	listenIsDefault bool
}

// ServerAddr is where a server is reached.
type ServerAddr struct {
	Host string // name or address without brackets
	Port uint16
}

func defaultConfig(mode Mode) *Config {
	return &Config{
		Mode:              mode,
		TunName:           "mqvpn0",
		Scheduler:         "wlb",
		Reconnect:         true,
		ReconnectInterval: 5 * time.Second,
		ManageRoutes:      true,
		Listen: []netip.AddrPort{
			netip.AddrPortFrom(netip.IPv4Unspecified(), defaultPort),
			netip.AddrPortFrom(netip.IPv6Unspecified(), defaultPort),
		},
		listenIsDefault: true,
		Subnet:          defaultSubnet,
		NAT:             true,
		CertFile:        "server.crt",
		KeyFile:         "server.key",
	}
}

// setting is one value with the place where it was written.
type setting struct {
	opt    *option
	value  string
	origin string // "--mtu" or "client.conf:12: MTU"
}

func (s setting) errorf(format string, args ...any) error {
	return failf(ExitUsage, "%s: "+format, append([]any{s.origin}, args...)...)
}

// newConfig puts settings together: those of the command line replace those of the
// file, list by list. The settings of each source are in the order they were read.
func newConfig(mode Mode, file, flags []setting) (*Config, error) {
	cfg := defaultConfig(mode)
	given := map[*option]setting{}
	onFlags := map[*option]bool{}
	for _, s := range flags {
		onFlags[s.opt] = true
	}
	apply := func(s setting) error {
		first, again := given[s.opt]
		if again && !s.opt.list {
			return s.errorf("given twice, first at %s", first.origin)
		}
		if s.opt.sides&mode.side() == 0 {
			return s.errorf("is not an option of %s", mode.program())
		}
		if !again {
			given[s.opt] = s
			if s.opt.reset != nil {
				s.opt.reset(cfg)
			}
		}
		if err := s.opt.set(cfg, s.value); err != nil {
			return s.errorf("%q: %w", redact(s), err)
		}
		return nil
	}
	for _, s := range file {
		if !onFlags[s.opt] {
			if err := apply(s); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range flags {
		if err := apply(s); err != nil {
			return nil, err
		}
	}
	return cfg, cfg.check(given)
}

// redact keeps keys out of messages, which end up in logs.
func redact(s setting) string {
	if s.opt.secret {
		return "…"
	}
	return s.value
}

// check looks at what cannot be judged value by value.
func (c *Config) check(given map[*option]setting) error {
	origin := func(flag string) string {
		if s, ok := given[optionByFlag(flag)]; ok {
			return s.origin
		}
		return "--" + flag
	}
	if c.Mode == ModeClient {
		if len(c.Servers) == 0 {
			return failf(ExitUsage, "no server given: use --server HOST:PORT or [Server] Address in a file given with --config")
		}
		if c.AuthKey == "" {
			return failf(ExitUsage, "no key given: use --auth-key KEY or [Auth] Key in a file given with --config")
		}
		if c.Insecure && c.Pin != nil {
			return failf(ExitUsage, "%s: cannot go together with %s: the pin says which certificate is right", origin("insecure"), origin("pin"))
		}
		return nil
	}
	if len(c.Users) == 0 && c.AuthKey == "" {
		return failf(ExitUsage, "nobody could connect: give --user NAME:KEY ([Auth] User), or run \"mqvpn-server init\" to have a configuration written")
	}
	names, keys := map[string]bool{}, map[string]string{c.AuthKey: "--auth-key"}
	for _, u := range c.Users {
		if names[u.Name] {
			return failf(ExitUsage, "%s: user %q is there twice", origin("user"), u.Name)
		}
		if other, ok := keys[u.Key]; ok {
			return failf(ExitUsage, "%s: user %q has the same key as %s: each needs its own", origin("user"), u.Name, other)
		}
		names[u.Name], keys[u.Key] = true, u.Name
	}
	return nil
}
