package shim

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// consoleSocket is where runc sends the terminal of a container: a message with one file descriptor.
type consoleSocket struct {
	path     string
	listener *net.UnixListener
}

func newConsoleSocket() (*consoleSocket, error) {
	const path = "console.sock" // relative: a socket's path has at most 107 bytes
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	return &consoleSocket{path: path, listener: listener}, nil
}

func (c *consoleSocket) close() { c.listener.Close() }

func (c *consoleSocket) receive() (*os.File, error) {
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	name, control := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(name, control)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil {
		return nil, err
	}
	if len(messages) != 1 {
		return nil, errors.New("runc sent no terminal")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}
