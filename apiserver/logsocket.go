package apiserver

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
)

// A page in a browser cannot read an answer while it grows, but it can read the
// messages of a WebSocket. So a log may be asked for over one: each piece of the
// log is a message, after a first, empty one.
const (
	protocolBinary = "binary.k8s.io"        // as the bytes are; also when no protocol is named
	protocolBase64 = "base64.binary.k8s.io" // as text
)

// logOverWebSocket asks the kubelet for the log, and only then agrees to the
// WebSocket: what goes wrong before is an ordinary answer.
func (s *Server) logOverWebSocket(w http.ResponseWriter, r *request, from *url.URL) error {
	ctx, cancel := s.untilStopping(r.Context())
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, http.MethodGet, from.String(), http.NoBody)
	if err != nil {
		return err
	}
	log, err := s.kubelets.RoundTrip(ask)
	if err != nil {
		return backendError(r, err)
	}
	defer log.Body.Close()
	if err := logError(r, log); err != nil {
		return err
	}
	upgrader := websocket.Upgrader{
		Subprotocols: []string{protocolBinary, protocolBase64},
		// Who asks has shown a certificate or a token; a page of another site cannot.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	socket, err := upgrader.Upgrade(w, r.Request, nil)
	if err != nil {
		return nil // answered by the library
	}
	defer socket.Close()
	go func() {
		defer cancel()
		for { // the client says nothing but that it goes
			if _, _, err := socket.NextReader(); err != nil {
				return
			}
		}
	}()
	copyToSocket(socket, log.Body)
	return nil
}

// copyToSocket sends what it reads, and at the end that it is over. A client
// which does not read for half a minute is left.
func copyToSocket(socket *websocket.Conn, from io.Reader) {
	send := func(piece []byte) error {
		_ = socket.SetWriteDeadline(time.Now().Add(30 * time.Second))
		if socket.Subprotocol() == protocolBase64 {
			return socket.WriteMessage(websocket.TextMessage, []byte(base64.StdEncoding.EncodeToString(piece)))
		}
		return socket.WriteMessage(websocket.BinaryMessage, piece)
	}
	buf := make([]byte, 32<<10)
	n, readErr, sendErr := 0, error(nil), send(nil)
	for readErr == nil && sendErr == nil {
		if n, readErr = from.Read(buf); n > 0 {
			sendErr = send(buf[:n])
		}
	}
	if errors.Is(readErr, io.EOF) {
		_ = socket.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""))
	}
}
