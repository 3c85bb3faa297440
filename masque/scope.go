// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"errors"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// scope is what a request is limited to (RFC 9484 section 4.6).
type scope struct {
	host     string       // a DNS name, or empty
	prefix   netip.Prefix // valid for an address or prefix
	protocol int          // -1 for all
}

func (s scope) unlimited() bool { return s.host == "" && !s.prefix.IsValid() && s.protocol < 0 }

var errScope = errors.New("masque: target or ipproto violates its format")

// isTunnelPath tells whether a path belongs to the well-known template.
func isTunnelPath(path string) bool { return strings.HasPrefix(path, wellKnown) }

// parseScope reads the variables of the well-known template from a path. // R9484-4.1-1
func parseScope(path string) (scope, error) {
	rest, ok := strings.CutPrefix(path, wellKnown)
	segments := strings.Split(rest, "/")
	if !ok || len(segments) != 3 || segments[2] != "" {
		return scope{}, errScope
	}
	target, err := url.PathUnescape(segments[0])
	if err != nil {
		return scope{}, errScope
	}
	ipproto, err := url.PathUnescape(segments[1])
	if err != nil {
		return scope{}, errScope
	}
	s := scope{protocol: -1}
	if ipproto != wildcard {
		n, err := strconv.ParseUint(ipproto, 10, 8) // R9484-4.6-4
		if err != nil || len(ipproto) > 3 || ipproto[0] == '+' {
			return scope{}, errScope
		}
		s.protocol = int(n)
	}
	if target == wildcard {
		return s, nil
	}
	if s.prefix, err = parseTarget(target); err == nil {
		return s, nil
	}
	if !isRegName(target) {
		return scope{}, errScope
	}
	s.host = target
	return s, nil
}

// parseTarget reads an address or a prefix without host bits.
func parseTarget(target string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(target); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(target) // R9484-4.6-2
	if err == nil && p != p.Masked() {  // R9484-4.6-3
		err = errScope
	}
	return p, err
}

// isRegName tells whether s is a host name of RFC 3986 section 3.2.2 in ASCII.
func isRegName(s string) bool {
	for i := 0; i < len(s); i++ {
		if !isAlphanumeric(s[i]) && strings.IndexByte("-._~!$&'()*+,;=", s[i]) < 0 {
			return false
		}
	}
	return s != ""
}
