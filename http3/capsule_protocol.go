// SPDX-License-Identifier: Apache-2.0

package http3

import "strings"

// CapsuleProtocol is the field that says that a data stream carries capsules.
var CapsuleProtocol = Field{"capsule-protocol", "?1"}

// UsesCapsuleProtocol tells whether the capsule-protocol field is true: a
// structured field item of type Boolean whose parameters are ignored. A value of
// another type, or more than one field, counts as absent. // R9297-3.4-1
func UsesCapsuleProtocol(h Header) bool {
	if h.count("capsule-protocol") != 1 {
		return false
	}
	v, ok := strings.CutPrefix(strings.Trim(h.Get("capsule-protocol"), " "), "?1")
	return ok && validParameters(v)
}

// CheckCapsuleMessage tells what forbids the Capsule Protocol on a message with
// these fields: a *StreamError for a malformed message, or nil. status is 0 for
// a request. // R9297-3.2-2
func CheckCapsuleMessage(h Header, status int) error {
	for _, name := range []string{"content-length", "content-type", "transfer-encoding"} {
		if h.Has(name) {
			return malformed("capsule protocol with " + name)
		}
	}
	switch status {
	case 204, 205, 206:
		return malformed("capsule protocol with a status for content")
	}
	return nil
}

// validParameters checks the parameters of an item: ";key" or ";key=value" each
// (RFC 8941 section 4.2.3.2).
func validParameters(s string) bool {
	for s != "" {
		if s[0] != ';' {
			return false
		}
		s = strings.TrimLeft(s[1:], " ")
		if s == "" || !(isLower(s[0]) || s[0] == '*') {
			return false
		}
		s = strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz0123456789_-.*")
		if s == "" || s[0] != '=' {
			continue
		}
		var ok bool
		if s, ok = skipBareItem(s[1:]); !ok {
			return false
		}
	}
	return true
}

// skipBareItem skips a number, string, token, byte sequence or Boolean at the
// front of s (RFC 8941 section 4.2.3.1).
func skipBareItem(s string) (rest string, ok bool) {
	if s == "" {
		return "", false
	}
	switch c := s[0]; {
	case c == '"':
		for i := 1; i < len(s); i++ {
			switch c := s[i]; {
			case c == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
				i++
			case c == '"':
				return s[i+1:], true
			case c == '\\' || c < ' ' || c > '~':
				return "", false
			}
		}
		return "", false
	case c == ':':
		rest = strings.TrimLeft(s[1:], letters+digits+"+/=")
		return strings.CutPrefix(rest, ":")
	case c == '?':
		if rest, ok = strings.CutPrefix(s, "?0"); ok {
			return rest, true
		}
		return strings.CutPrefix(s, "?1")
	case c == '-' || isDigit(c):
		number := strings.TrimPrefix(s, "-")
		if number == "" || !isDigit(number[0]) {
			return "", false
		}
		rest = strings.TrimLeft(number, digits)
		if fraction, ok := strings.CutPrefix(rest, "."); ok {
			if rest = strings.TrimLeft(fraction, digits); rest == fraction {
				return "", false
			}
		}
		return rest, true
	case c == '*' || strings.IndexByte(letters, c) >= 0:
		return strings.TrimLeft(s, letters+digits+"!#$%&'*+-.^_`|~:/"), true
	}
	return "", false
}

const (
	letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	digits  = "0123456789"
)

func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
