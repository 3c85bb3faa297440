// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"strconv"
	"strings"
)

// Request is the header section of a request. Protocol is the :protocol of an
// extended CONNECT (RFC 9220), otherwise empty.
type Request struct {
	Method    string
	Scheme    string
	Authority string
	Path      string // with the query
	Protocol  string
	Header    Header
}

// Response is the header section of a final response.
type Response struct {
	Status int // 200 to 599; an interim response (1xx) is not shown
	Header Header
}

// isConnect tells whether the stream becomes a tunnel once the answer is 2xx.
func (r *Request) isConnect() bool { return r.Method == "CONNECT" }

// isExtendedConnect tells whether the request may carry capsules and datagrams.
func (r *Request) isExtendedConnect() bool { return r.isConnect() && r.Protocol != "" }

// fields is the field section to send. What we would refuse is not sent either.
func (r *Request) fields() ([]Field, error) {
	f := []Field{{":method", r.Method}}
	for _, p := range []Field{
		{":scheme", r.Scheme}, {":authority", r.Authority}, {":path", r.Path}, {":protocol", r.Protocol},
	} {
		if p.Value != "" {
			f = append(f, p)
		}
	}
	f = append(f, r.Header...)
	if _, err := parseRequest(f); err != nil {
		return nil, err
	}
	return f, nil
}

func (r *Response) fields() ([]Field, error) {
	if r.Status >= 300 && r.Header.Has(CapsuleProtocol.Name) {
		return nil, malformed("capsule-protocol on a refusal") // R9297-3.4-2
	}
	f := append([]Field{{":status", strconv.Itoa(r.Status)}}, r.Header...)
	if _, err := parseResponse(f); err != nil {
		return nil, err
	}
	return f, nil
}

// pseudoFields takes the pseudo-header fields from the front of a field section
// and checks all the others. The keys of dst are the names that are allowed.
func pseudoFields(fields []Field, dst map[string]*string) (Header, error) {
	seen := 0
	for ; seen < len(fields) && strings.HasPrefix(fields[seen].Name, ":"); seen++ {
		f := fields[seen]
		p, ok := dst[f.Name]
		if !ok {
			return nil, malformed("pseudo-header field " + strconv.Quote(f.Name)) // R9114-4.3-1
		}
		if p == nil {
			return nil, malformed("second " + f.Name) // R9114-4.3.1-1
		}
		if f.Value == "" || !validFieldValue(f.Value) {
			return nil, malformed("invalid " + f.Name) // R9114-4.3.1-3 R9114-10.3-1
		}
		*p, dst[f.Name] = f.Value, nil
	}
	header := Header(fields[seen:])
	for _, f := range header {
		if strings.HasPrefix(f.Name, ":") {
			return nil, malformed("pseudo-header field after a regular one") // R9114-4.3-2
		}
		if problem := checkField(f, dst == nil); problem != "" {
			return nil, malformed(problem)
		}
	}
	if dst != nil {
		if _, ok := contentLength(header); !ok {
			return nil, malformed("invalid content-length")
		}
	}
	return header, nil
}

// parseRequest checks the field section of a request; the error is a *StreamError.
func parseRequest(fields []Field) (*Request, error) {
	r := new(Request)
	var err error
	r.Header, err = pseudoFields(fields, map[string]*string{
		":method": &r.Method, ":scheme": &r.Scheme, ":authority": &r.Authority, ":path": &r.Path, ":protocol": &r.Protocol,
	})
	if err != nil {
		return nil, err
	}
	switch {
	case r.Method == "":
		return nil, malformed("no :method") // R9114-4.3.1-1
	case r.Method != "CONNECT" && r.Protocol != "":
		return nil, malformed(":protocol without CONNECT")
	case r.isConnect() && !r.isExtendedConnect():
		if r.Authority == "" || r.Scheme != "" || r.Path != "" {
			return nil, malformed("CONNECT needs :authority alone") // R9114-4.4-1
		}
		return r, nil
	case r.Scheme == "" || r.Path == "":
		return nil, malformed("no :scheme or no :path") // R9114-4.3.1-1 R8441-4-1
	case r.isExtendedConnect() && r.Authority == "":
		return nil, malformed("extended CONNECT without :authority") // R8441-4-1
	}
	if r.Scheme == "http" || r.Scheme == "https" {
		if r.Path[0] != '/' && !(r.Path == "*" && r.Method == "OPTIONS") {
			return nil, malformed(":path is not absolute")
		}
		return r, r.checkAuthority()
	}
	return r, nil
}

// checkAuthority: an http or https request names its host in :authority, in Host
// or the same in both. // R9114-4.3.1-2
func (r *Request) checkAuthority() error {
	host := r.Header.Get("host")
	switch n := r.Header.count("host"); {
	case n > 1:
		return malformed("several host fields")
	case n == 1 && host == "":
		return malformed("empty host")
	case n == 0 && r.Authority == "":
		return malformed("no authority")
	case n == 1 && r.Authority != "" && host != r.Authority:
		return malformed("host differs from :authority")
	case r.Authority == "":
		r.Authority = host
	}
	if strings.Contains(r.Authority, "@") {
		return malformed("userinfo in the authority")
	}
	return nil
}

// parseResponse checks the field section of a response, interim or final; the
// error is a *StreamError.
func parseResponse(fields []Field) (*Response, error) {
	var status string
	h, err := pseudoFields(fields, map[string]*string{":status": &status})
	if err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(status)
	if err != nil || len(status) != 3 || n < 100 || n > 599 || n == 101 {
		return nil, malformed("no valid :status") // R9114-4.3.2-1
	}
	return &Response{Status: n, Header: h}, nil
}

// checkTrailers checks a trailer section, which has no pseudo-header field. A
// second request or response on a stream shows as one that does. // R9114-4.1-2
func checkTrailers(fields []Field) error {
	_, err := pseudoFields(fields, nil)
	return err
}

// fieldSectionSize is what RFC 9114 section 4.2.2 counts.
func fieldSectionSize(fields []Field) (n uint64) {
	for _, f := range fields {
		n += uint64(f.size())
	}
	return n
}
