// SPDX-License-Identifier: Apache-2.0

package http3

import (
	"bufio"
	"io"
)

// tlvReader reads records of type, length and value from a byte stream: the form
// of both frames and capsules. Errors of the stream itself are passed on
// unchanged, so that a reset is not taken for a violation.
type tlvReader struct {
	r         *bufio.Reader
	left      uint64 // unread bytes of the value of the record that next returned
	truncated error  // the error for a stream that ends inside a record
}

// tlvBufferSize is that of a reader in bytes: each connection has five. Larger reads of
// content pass it by.
const tlvBufferSize = 256

func newTLVReader(r io.Reader, truncated error) *tlvReader {
	return &tlvReader{r: bufio.NewReaderSize(r, tlvBufferSize), truncated: truncated}
}

// next skips what is left of the current record and reads the type and length of
// the next. It returns io.EOF when the stream ends between two records.
func (t *tlvReader) next() (typ uint64, err error) {
	if err = t.skip(); err != nil {
		return 0, err
	}
	if typ, err = readVarint(t.r); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = t.truncated
		}
		return 0, err
	}
	if t.left, err = readVarint(t.r); err != nil {
		t.left = 0
		return 0, t.inside(err)
	}
	return typ, nil
}

// read reads at least one byte of the value. t.left and len(p) are not 0.
func (t *tlvReader) read(p []byte) (int, error) {
	if uint64(len(p)) > t.left {
		p = p[:t.left]
	}
	n, err := t.r.Read(p)
	t.left -= uint64(n)
	if n > 0 {
		return n, nil
	}
	return 0, t.inside(err)
}

// value returns the whole value. Its memory grows with what has arrived, not with
// what was announced; more than limit bytes are an error.
func (t *tlvReader) value(limit int) ([]byte, error) {
	if t.left > uint64(limit) {
		return nil, &StreamError{ErrExcessiveLoad, "frame or capsule too large"}
	}
	b := make([]byte, 0, min(t.left, 4096))
	for t.left > 0 {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := t.read(b[len(b):cap(b)])
		if err != nil {
			return nil, err
		}
		b = b[:len(b)+n]
	}
	return b, nil
}

// skip discards the rest of the value.
func (t *tlvReader) skip() error {
	for t.left > 0 {
		n, err := t.r.Discard(int(min(t.left, 1<<20)))
		t.left -= uint64(n)
		if err != nil {
			return t.inside(err)
		}
	}
	return nil
}

func (t *tlvReader) inside(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return t.truncated
	}
	return err
}

// readVarint returns io.EOF at a clean end and io.ErrUnexpectedEOF inside the integer.
func readVarint(r io.ByteReader) (uint64, error) {
	c, err := r.ReadByte()
	if err != nil {
		return 0, err
	}
	v := uint64(c & 0x3f)
	for n := 1<<(c>>6) - 1; n > 0; n-- {
		if c, err = r.ReadByte(); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return 0, err
		}
		v = v<<8 | uint64(c)
	}
	return v, nil
}
