package apiserver

import (
	"context"
	"net/http"
	"time"
)

// What one client can make this server hold is bounded:
//
//	a header  32 s, 1 MB     ReadHeaderTimeout, MaxHeaderBytes
//	a body    3 MB           decode.go
//	a request 1 minute       here: reading, working and writing together
//	a watch   30 s unread    watch.go; 10000 events waiting, store/watch.go
//	an idle connection       2 minutes

const (
	defaultRequestTimeout = time.Minute
	defaultHeaderTimeout  = 32 * time.Second
	defaultUnreadTimeout  = 30 * time.Second
)

func orDefault(d, otherwise time.Duration) time.Duration {
	if d <= 0 {
		return otherwise
	}
	return d
}

// limit gives a request its time. The returned function is called at its end.
func (s *Server) limit(w http.ResponseWriter, r *request) (done func()) {
	if longRunning(r) {
		return func() {}
	}
	timeout := orDefault(s.cfg.RequestTimeout, defaultRequestTimeout)
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	r.Request = r.WithContext(ctx)
	connection, end := http.NewResponseController(w), time.Now().Add(timeout)
	// Only a connection that is closed already refuses a deadline. The answer
	// gets a little longer than the body, so that the client learns why.
	_ = connection.SetReadDeadline(end)
	_ = connection.SetWriteDeadline(end.Add(time.Second))
	return func() {
		cancel()
		// net/http itself sets the time to read the next request; until then it
		// reads the rest of this one's body, which must not last either.
		_ = connection.SetWriteDeadline(time.Time{})
	}
}
