// SPDX-License-Identifier: Apache-2.0

package masque

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// wellKnown is the path of the default template up to its variables (RFC 9484 section 3).
const wellKnown = "/.well-known/masque/ip/"

// wildcard is the value of a variable that sets no limit.
const wildcard = "*"

// Template is the URI template that configures a client (RFC 9484 section 3).
// It is immutable.
type Template struct {
	authority string
	parts     []templatePart // of the path and query
}

// templatePart is a literal, or an expression when names is not nil.
type templatePart struct {
	literal  string
	operator byte // 0, '?' or '&'
	names    []string
}

// DefaultTemplate is the template for a proxy of which only host and port are known.
func DefaultTemplate(authority string) (*Template, error) {
	if err := checkAuthority(authority); err != nil {
		return nil, err
	}
	return ParseTemplate("https://" + authority + wellKnown + "{target}/{ipproto}/")
}

// ParseTemplate checks a URI template: absolute, https, at most level 3 of RFC
// 6570 without the operators that RFC 9484 forbids. // R9484-3-1
func ParseTemplate(uri string) (*Template, error) {
	for i := 0; i < len(uri); i++ {
		if c := uri[i]; c < 0x21 || c > 0x7e {
			return nil, fmt.Errorf("masque: template has the character %#02x", c)
		}
	}
	scheme, rest, ok := strings.Cut(uri, "://")
	if !ok || !strings.EqualFold(scheme, "https") {
		return nil, errors.New("masque: template does not start with https://")
	}
	slash := strings.IndexByte(rest, '/')
	if slash < 0 {
		return nil, errors.New("masque: template has no path")
	}
	t := &Template{authority: rest[:slash]}
	if err := checkAuthority(t.authority); err != nil {
		return nil, err
	}
	for rest = rest[slash:]; rest != ""; {
		literal, after, found := strings.Cut(rest, "{")
		if err := checkLiteral(literal); err != nil {
			return nil, err
		}
		if literal != "" {
			t.parts = append(t.parts, templatePart{literal: literal})
		}
		if !found {
			break
		}
		expression, after, found := strings.Cut(after, "}")
		if !found {
			return nil, errors.New("masque: template has an open brace")
		}
		part, err := parseExpression(expression)
		if err != nil {
			return nil, err
		}
		t.parts = append(t.parts, part)
		rest = after
	}
	return t, nil
}

func checkAuthority(authority string) error {
	u, err := url.Parse("https://" + authority + "/")
	if err != nil || u.Host != authority || u.Hostname() == "" || u.User != nil || strings.ContainsAny(authority, "{}?#") {
		return fmt.Errorf("masque: %q is not an authority", authority)
	}
	return nil
}

// checkLiteral checks characters that stand for themselves (RFC 6570 section 2.1).
func checkLiteral(s string) error {
	if i := strings.IndexAny(s, "\"'<>\\^`|}#"); i >= 0 {
		return fmt.Errorf("masque: template has %q outside of a variable", s[i])
	}
	if _, err := url.PathUnescape(s); err != nil {
		return fmt.Errorf("masque: template: %w", err)
	}
	return nil
}

// parseExpression parses what stands between braces.
func parseExpression(s string) (p templatePart, err error) {
	if s != "" && (s[0] == '?' || s[0] == '&') {
		p.operator, s = s[0], s[1:]
	}
	for name := range strings.SplitSeq(s, ",") {
		// Other operators, and the modifiers of level 4, are no part of a name.
		if name == "" || name[0] == '.' || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.") != "" {
			return p, fmt.Errorf("masque: template has the variable %q", s)
		}
		p.names = append(p.names, name)
	}
	return p, nil
}

// expand fills in the variables; all but target and ipproto are undefined. An
// asterisk stays as it is, as in the example of RFC 9484 section 4.4: peers exist
// that compare the path as text.
func (t *Template) expand(target, ipproto string) (path string) {
	values := map[string]string{"target": target, "ipproto": ipproto}
	var b strings.Builder
	for _, p := range t.parts {
		b.WriteString(p.literal)
		separator := p.operator
		for _, name := range p.names {
			value, ok := values[name]
			if !ok {
				continue
			}
			if separator != 0 {
				b.WriteByte(separator)
			}
			if separator = ','; p.operator != 0 {
				b.WriteString(name + "=")
				separator = '&'
			}
			b.WriteString(escapeValue(value))
		}
	}
	return b.String()
}

// escapeValue percent-encodes all but unreserved characters and the wildcard, so
// colons and slashes too. // R9484-4.6-1
func escapeValue(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if isAlphanumeric(c) || strings.IndexByte("-._~*", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		}
	}
	return b.String()
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9'
}
