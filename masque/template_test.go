// SPDX-License-Identifier: Apache-2.0

package masque

import "testing"

func TestTemplateExpand(t *testing.T) {
	for _, c := range []struct{ template, target, ipproto, authority, path string }{
		// The examples of RFC 9484 section 3. // R9484-3-1 R9484-3-2
		{"https://example.org/.well-known/masque/ip/{target}/{ipproto}/", "*", "*", "example.org", "/.well-known/masque/ip/*/*/"},
		{"https://proxy.example.org:4443/masque/ip?t={target}&i={ipproto}", "*", "17", "proxy.example.org:4443", "/masque/ip?t=*&i=17"},
		{"https://proxy.example.org:4443/masque/ip{?target,ipproto}", "*", "*", "proxy.example.org:4443", "/masque/ip?target=*&ipproto=*"},
		{"https://masque.example.org/?user=bob", "*", "*", "masque.example.org", "/?user=bob"},
		{"HTTPS://[2001:db8::1]:443/x{?y}{&target}", "a", "*", "[2001:db8::1]:443", "/x&target=a"},
		{"https://a/{y,target,ipproto}/%7e", "a", "1", "a", "/a,1/%7e"},
		{"https://a/{x.y_1}", "a", "1", "a", "/"},
		// R9484-4.6-1
		{"https://a/{target}", "2001:db8::42", "*", "a", "/2001%3Adb8%3A%3A42"},
		{"https://a/{?target}", "192.0.2.0/24", "*", "a", "/?target=192.0.2.0%2F24"},
		{"https://a/{target}", "a b+üzZ9~", "*", "a", "/a%20b%2B%C3%BCzZ9~"},
	} {
		tmpl, err := ParseTemplate(c.template)
		if err != nil {
			t.Errorf("%s: %v", c.template, err)
			continue
		}
		if path := tmpl.expand(c.target, c.ipproto); path != c.path || tmpl.authority != c.authority {
			t.Errorf("%s expands to %s at %s, want %s at %s", c.template, path, tmpl.authority, c.path, c.authority)
		}
	}
}

func TestTemplateErrors(t *testing.T) { // R9484-3-1
	for _, s := range []string{
		"",
		"/x",
		"https:",
		"http://a/",
		"ftp://a/",
		"https:///x",
		"https://a",
		"https://a?x=/",
		"https://{target}/",
		"https://a{target}/",
		"https://u@a/",
		"https://a b/",
		"https://a/ü",
		"https://a/\x7f",
		"https://a/#x",
		"https://a/{+target}",
		"https://a/{#target}",
		"https://a/{.target}",
		"https://a{/target}",
		"https://a/{/target}",
		"https://a/{;target}",
		"https://a/{target:3}",
		"https://a/{target*}",
		"https://a/{}",
		"https://a/{?}",
		"https://a/{a,}",
		"https://a/{target",
		"https://a/target}",
		"https://a/{a{b}}",
		"https://a/<",
		"https://a/%zz",
		"https://a:x/",
	} {
		if tmpl, err := ParseTemplate(s); err == nil {
			t.Errorf("%q is accepted: %+v", s, tmpl)
		}
	}
	for _, authority := range []string{"", "a/b:443", "a:443?"} {
		if _, err := DefaultTemplate(authority); err == nil {
			t.Errorf("authority %q is accepted", authority)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("https://example.org/.well-known/masque/ip/{target}/{ipproto}/")
	f.Add("https://a/x{?target,y}{&ipproto}")
	f.Fuzz(func(t *testing.T, s string) {
		tmpl, err := ParseTemplate(s)
		if err != nil {
			return
		}
		path := tmpl.expand("2001:db8::/32", "17")
		if path == "" || path[0] != '/' {
			t.Fatalf("%q expands to %q", s, path)
		}
		for i := range len(path) {
			if path[i] < 0x21 || path[i] > 0x7e {
				t.Fatalf("%q expands to %q", s, path)
			}
		}
	})
}
