package shim

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The first byte which a client sends on the socket says what it wants.
const (
	HelloWait   = 'w' // nothing but the end of the connection, which is the end of the container
	HelloAttach = 'a' // frames in both directions
)

// Kind is what a frame carries.
type Kind byte

// Frames of an attach connection. Stdin, CloseStdin and Resize go to the shim, Stdout and Stderr
// come from it.
const (
	Stdin Kind = iota
	Stdout
	Stderr
	CloseStdin
	Resize // width and height of the terminal, two bytes each, big endian
)

// maxFrame bounds a frame's payload in bytes.
const maxFrame = 64 << 10

// WriteFrame sends one frame: kind, length (4 bytes, big endian), payload; in a single write.
func WriteFrame(w io.Writer, kind Kind, payload []byte) error {
	frame := make([]byte, 5, 5+len(payload))
	frame[0] = byte(kind)
	binary.BigEndian.PutUint32(frame[1:], uint32(len(payload)))
	_, err := w.Write(append(frame, payload...))
	return err
}

// ReadFrame reads one frame. io.EOF means that the other side closed between two frames.
func ReadFrame(r io.Reader) (Kind, []byte, error) {
	var header [5]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return 0, nil, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > maxFrame {
		return 0, nil, fmt.Errorf("frame of %d bytes exceeds %d", size, maxFrame)
	}
	payload := make([]byte, size)
	_, err := io.ReadFull(r, payload)
	return Kind(header[0]), payload, err
}
