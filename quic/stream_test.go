// SPDX-License-Identifier: Apache-2.0

package quic

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mqvpn/mqvpn/quic/internal/wire"
)

var errTest = errors.New("connection gone")

func TestReadWaitsForData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := clientTest(t)
		ts.receive(valueFrame(wire.FrameTypeStreamDataBlocked, remote, 0))
		s := ts.accept()
		done := make(chan struct{})
		go func() {
			defer close(done)
			wantRead(t, s, "abc")
		}()
		synctest.Wait()
		ts.receive(streamFrame(remote, 1, "bc", false))
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("Read returned before the first byte arrived")
		default:
		}
		ts.receive(streamFrame(remote, 0, "a", false))
		<-done
	})
}

// A waiting Read ends with everything that can end it.
func TestReadWakes(t *testing.T) {
	for name, test := range map[string]struct {
		act  func(ts *streamsTest, s *Stream)
		want func(err error) bool
	}{
		"end": {func(ts *streamsTest, s *Stream) { ts.receive(streamFrame(remote, 0, "", true)) },
			func(err error) bool { return err == io.EOF }},
		"reset": {func(ts *streamsTest, s *Stream) { ts.receive(resetFrame(remote, 1, 0)) },
			func(err error) bool { _, ok := errors.AsType[*StreamError](err); return ok }},
		"stop": {func(ts *streamsTest, s *Stream) { s.StopSending(1) },
			func(err error) bool { return err == errReadClosed }},
		"close": {func(ts *streamsTest, s *Stream) { s.Close() },
			func(err error) bool { return err == errReadClosed }},
		"connection": {func(ts *streamsTest, s *Stream) { ts.st.closeAll(errTest) },
			func(err error) bool { return err == errTest }},
		"deadline": {func(ts *streamsTest, s *Stream) { s.SetReadDeadline(time.Now().Add(time.Second)) },
			func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
		"past deadline": {func(ts *streamsTest, s *Stream) { s.SetReadDeadline(time.Now().Add(-1)) },
			func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ts := clientTest(t)
				ts.receive(valueFrame(wire.FrameTypeStreamDataBlocked, remote, 0))
				s := ts.accept()
				result := make(chan error)
				go func() {
					_, err := s.Read(make([]byte, 1))
					result <- err
				}()
				synctest.Wait()
				test.act(ts, s)
				if err := <-result; !test.want(err) {
					t.Errorf("Read: %v", err)
				}
			})
		})
	}
}

// A waiting Write ends with everything that can end it, and tells how much it took.
func TestWriteWakes(t *testing.T) {
	for name, test := range map[string]struct {
		act  func(ts *streamsTest, s *Stream)
		want func(err error) bool
	}{
		"acknowledgment": {func(ts *streamsTest, s *Stream) { ts.frames(); ts.settle(fateAcked) },
			func(err error) bool { return err == nil }},
		"stop sending": {func(ts *streamsTest, s *Stream) { ts.receive(wire.Frame{Type: wire.FrameTypeStopSending}) },
			func(err error) bool { _, ok := errors.AsType[*StreamError](err); return ok }},
		"reset": {func(ts *streamsTest, s *Stream) { s.Reset(1) },
			func(err error) bool { _, ok := errors.AsType[*StreamError](err); return ok }},
		"close": {func(ts *streamsTest, s *Stream) { s.Close() },
			func(err error) bool { return err == errWriteClosed }},
		"connection": {func(ts *streamsTest, s *Stream) { ts.st.closeAll(errTest) },
			func(err error) bool { return err == errTest }},
		"deadline": {func(ts *streamsTest, s *Stream) { s.SetWriteDeadline(time.Now().Add(time.Second)) },
			func(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ts := clientTest(t)
				s := ts.opened(false)
				type result struct {
					n   int
					err error
				}
				results := make(chan result)
				go func() {
					n, err := s.Write(make([]byte, maxStreamWriteBuffer+1))
					results <- result{n, err}
				}()
				synctest.Wait()
				test.act(ts, s)
				r := <-results
				want := maxStreamWriteBuffer
				if r.err == nil {
					want++
				}
				if r.n != want || !test.want(r.err) {
					t.Errorf("Write: %d, %v", r.n, r.err)
				}
			})
		})
	}
}

// A writer that waits for room is woken for a good part of the buffer, not for the
// bytes of each acknowledgment.
func TestWriteIsNotWokenForEveryAcknowledgment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := clientTest(t)
		s := ts.open(false)
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.Write(make([]byte, maxStreamWriteBuffer+10))
		}()
		synctest.Wait()
		ts.frames()
		ts.st.handleFate(ts.sent[0].recs[0], fateAcked)
		synctest.Wait()
		if s.send.buf.end() != maxStreamWriteBuffer {
			t.Error("woken for the room of one packet")
		}
		ts.settle(fateAcked)
		<-done
	})
}

func TestDeadlineCanBeMovedAndLifted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := clientTest(t)
		ts.receive(valueFrame(wire.FrameTypeStreamDataBlocked, remote, 0))
		s := ts.accept()
		start := time.Now()
		s.SetReadDeadline(start.Add(time.Second))
		s.SetReadDeadline(start.Add(3 * time.Second))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Read: %v", err)
		}
		if waited := time.Since(start); waited != 3*time.Second {
			t.Errorf("Read waited for %v, want 3 s", waited)
		}
		s.SetReadDeadline(time.Time{})
		ts.receive(streamFrame(remote, 0, "abc", false))
		wantRead(t, s, "abc")
	})
}

func TestStreamDirections(t *testing.T) {
	ts := clientTest(t)
	out := ts.open(true)
	if _, err := out.Read(make([]byte, 1)); !errors.Is(err, errNotReadable) {
		t.Errorf("Read of a stream that only sends: %v", err)
	}
	out.StopSending(1)
	ts.receive(streamFrame(3, 0, "x", false))
	in := ts.accept()
	if _, err := in.Write([]byte("x")); !errors.Is(err, errNotWritable) {
		t.Errorf("Write of a stream that only receives: %v", err)
	}
	if err := in.CloseWrite(); !errors.Is(err, errNotWritable) {
		t.Errorf("CloseWrite of a stream that only receives: %v", err)
	}
	in.Reset(1)
	if frames := ts.frames(); len(frames) > 0 {
		t.Errorf("sent %+v", frames)
	}
}

func TestReadAfterConnectionIsGone(t *testing.T) {
	ts := clientTest(t)
	ts.receive(streamFrame(remote, 0, "abc", false))
	s := ts.accept()
	ts.st.closeAll(errTest)
	wantRead(t, s, "abc")
	if _, err := s.Read(make([]byte, 1)); err != errTest {
		t.Errorf("Read: %v", err)
	}
	if _, err := s.Write([]byte("x")); err != errTest {
		t.Errorf("Write: %v", err)
	}
	if _, err := ts.st.open(context.Background(), false); err != errTest {
		t.Errorf("open: %v", err)
	}
	if _, err := ts.st.accept(context.Background()); err != errTest {
		t.Errorf("accept: %v", err)
	}
}

func TestOpenWaitsForTheLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := generousLimits
		limits.initialMaxStreamsBidi = 2
		ts := newStreamsTest(t, false, testStreamsConfig, limits)
		ts.open(false)
		ts.open(false)
		ts.open(true) // another limit
		ts.wantNo(wire.FrameTypeStreamsBlocked)
		ctx, cancel := context.WithCancel(context.Background())
		opened := make(chan error)
		for range 3 {
			go func() {
				_, err := ts.st.open(ctx, false)
				opened <- err
			}()
		}
		synctest.Wait()
		if n := ts.st.box.opened[bidiStream]; n != 2 { // R9000-4.6-3
			t.Fatalf("%d streams opened", n)
		}
		if f := ts.want(wire.FrameTypeStreamsBlocked); f.Value != 2 || f.Uni { // R9000-4.6-6
			t.Errorf("sent %+v", f)
		}
		ts.settle(fateLost)
		ts.want(wire.FrameTypeStreamsBlocked)
		ts.receive(wire.Frame{Type: wire.FrameTypeMaxStreams, Value: 4})
		for range 2 {
			if err := <-opened; err != nil {
				t.Error(err)
			}
		}
		if f := ts.want(wire.FrameTypeStreamsBlocked); f.Value != 4 { // R9000-4.6-6: one still waits
			t.Errorf("sent %+v", f)
		}
		cancel()
		if err := <-opened; !errors.Is(err, context.Canceled) {
			t.Errorf("open: %v", err)
		}
	})
}

func TestAcceptWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := clientTest(t)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := ts.st.accept(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("accept: %v", err)
		}
		accepted := make(chan *Stream)
		go func() {
			s, _ := ts.st.accept(context.Background())
			accepted <- s
		}()
		synctest.Wait()
		ts.receive(streamFrame(3, 0, "x", false))
		if s := <-accepted; s.ID() != 3 {
			t.Errorf("accepted stream %d", s.ID())
		}
	})
}

// A streamsEnd is one endpoint with a token holder of its own: a goroutine that
// sends whenever it is woken, over a channel that stands for a lossless network.
type streamsEnd struct {
	st   streamsState
	wake chan struct{}
	in   chan []byte
	out  chan []byte
}

func (e *streamsEnd) run(t *testing.T, done <-chan struct{}) {
	var w packetWriter
	for {
		select {
		case <-done:
			e.st.closeAll(errTest)
			return
		case <-e.wake:
		case b := <-e.in:
			for len(b) > 0 {
				var f wire.Frame
				n, _ := f.Parse(b, nil)
				b = b[n:]
				if err := e.st.handleFrame(&f); err != nil {
					t.Error(err)
				}
			}
		}
		for e.st.hasControl() || e.st.hasData() {
			w.reset(make([]byte, 0, 1200), 1200)
			e.st.appendControl(&w)
			e.st.appendData(&w)
			e.out <- bytes.Clone(w.buf)
			for _, r := range w.recs {
				e.st.handleFate(r, fateAcked)
			}
		}
	}
}

// TestApplicationAgainstTokenHolder moves data over many streams in both directions
// with small windows: it is for the race detector, and finds wake-ups that are lost,
// which leave every goroutine waiting.
func TestApplicationAgainstTokenHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const streams, size = 8, 60_000
		done := make(chan struct{})
		limits := transportParams{initialMaxData: 9000, initialMaxStreamsBidi: 3,
			initialMaxStreamDataBidiLocal: 4000, initialMaxStreamDataBidiRemote: 4000}
		there, back := make(chan []byte, 1000), make(chan []byte, 1000)
		ends := []*streamsEnd{{in: back, out: there}, {in: there, out: back}}
		var loops, apps sync.WaitGroup
		for i, e := range ends {
			e.wake = make(chan struct{}, 1)
			e.st.init(i == 1, streamsConfig{maxBidi: 3, streamWindow: 4000, connWindow: 9000, wake: func() {
				select {
				case e.wake <- struct{}{}:
				default:
				}
			}})
			e.st.setPeerParams(&limits)
			loops.Go(func() { e.run(t, done) })
		}
		use := func(s *Stream, seed uint64) {
			apps.Go(func() {
				rng := rand.New(rand.NewPCG(seed, 1))
				for off := uint64(0); off < size; {
					b := patternBytes(s.ID(), off, 1+rng.IntN(min(5000, int(size-off))))
					if _, err := s.Write(b); err != nil {
						t.Error(err)
						return
					}
					off += uint64(len(b))
				}
				s.CloseWrite()
			})
			apps.Go(func() {
				rng := rand.New(rand.NewPCG(seed, 2))
				off := uint64(0)
				for {
					b := make([]byte, 1+rng.IntN(3000))
					n, err := s.Read(b)
					checkPattern(t, s.ID(), off, b[:n])
					off += uint64(n)
					if err == io.EOF && off == size {
						return
					} else if err != nil {
						t.Errorf("after %d bytes: %v", off, err)
						return
					}
				}
			})
		}
		apps.Go(func() {
			for i := range streams {
				s, err := ends[0].st.open(t.Context(), false)
				if err != nil {
					t.Error(err)
					return
				}
				use(s, uint64(i))
			}
		})
		apps.Go(func() {
			for i := range streams {
				s, err := ends[1].st.accept(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				use(s, uint64(100+i))
			}
		})
		apps.Wait()
		synctest.Wait()
		close(done)
		loops.Wait()
		for i, e := range ends {
			if e.st.flow.received != streams*size || e.st.flow.sent != streams*size {
				t.Errorf("end %d: received %d bytes, sent %d", i, e.st.flow.received, e.st.flow.sent)
			}
		}
	})
}
