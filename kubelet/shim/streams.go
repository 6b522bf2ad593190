package shim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// slowClient is how long an attached client may block the container's output before it is dropped.
const slowClient = 10 * time.Second

// streams are our ends of a container's standard streams, and the clients attached to them.
type streams struct {
	task Task
	log  *logFile

	child    []*os.File // the container's ends: stdin, stdout, stderr
	stdout   *os.File
	stderr   *os.File
	terminal *os.File
	copying  sync.WaitGroup

	mu       sync.Mutex
	stdin    *os.File
	attached map[net.Conn]bool // connections which get output
	waiting  map[net.Conn]bool // all connections
}

func openStreams(task Task, log *logFile) (*streams, error) {
	s := &streams{task: task, log: log, attached: map[net.Conn]bool{}, waiting: map[net.Conn]bool{}}
	if task.TTY {
		return s, nil
	}
	input, err := s.openStdin()
	if err != nil {
		return nil, err
	}
	out, outChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	errs, errChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.stdout, s.stderr = out, errs
	s.child = []*os.File{input, outChild, errChild}
	return s, errors.Join(outChild.Chown(task.UID, task.GID), errChild.Chown(task.UID, task.GID))
}

func (s *streams) openStdin() (*os.File, error) {
	if !s.task.Stdin {
		return os.Open(os.DevNull)
	}
	child, ours, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	s.stdin = ours
	return child, child.Chown(s.task.UID, s.task.GID)
}

// childFiles are what runc passes on to the container. With a terminal it gets none of them.
func (s *streams) childFiles() (stdin io.Reader, stdout, stderr io.Writer) {
	if s.task.TTY {
		return nil, nil, nil
	}
	return s.child[0], s.child[1], s.child[2]
}

func (s *streams) closeChildFiles() {
	for _, f := range s.child {
		f.Close()
	}
}

func (s *streams) useTerminal(f *os.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.terminal, s.stdout, s.stdin = f, f, f
}

func (s *streams) start() {
	s.copying.Go(func() { s.copy(s.stdout, "stdout", Stdout) })
	if s.stderr != nil {
		s.copying.Go(func() { s.copy(s.stderr, "stderr", Stderr) })
	}
}

// copy brings output to the log and to the attached clients until the container's end is closed.
func (s *streams) copy(from *os.File, name string, kind Kind) {
	record := &lines{log: s.log, stream: name}
	defer record.flush()
	buffer := make([]byte, 8<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			// A full disk must not stop the container: the line is lost, the copying goes on.
			_, _ = record.Write(buffer[:n])
			s.send(kind, buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

func (s *streams) send(kind Kind, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.attached {
		err := conn.SetWriteDeadline(time.Now().Add(slowClient))
		if err == nil {
			err = WriteFrame(conn, kind, data)
		}
		if err != nil {
			delete(s.attached, conn)
			conn.Close()
		}
	}
}

func (s *streams) drain(timeout time.Duration) { waitGroupTimeout(&s.copying, timeout) }

func (s *streams) detachAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.waiting {
		conn.Close()
	}
}

// listen opens the socket of this container and serves it.
func listen(s *streams) (net.Listener, error) {
	if err := os.Remove(SocketFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	listener, err := net.Listen("unix", SocketFile)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", SocketFile, err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go s.client(conn)
		}
	}()
	return listener, nil
}

func (s *streams) client(conn net.Conn) {
	s.mu.Lock()
	s.waiting[conn] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.waiting, conn)
		delete(s.attached, conn)
		s.mu.Unlock()
		conn.Close()
	}()
	var hello [1]byte
	if _, err := io.ReadFull(conn, hello[:]); err != nil {
		return
	}
	if hello[0] == HelloWait {
		_, _ = io.Copy(io.Discard, conn)
		return
	}
	s.mu.Lock()
	s.attached[conn] = true
	s.mu.Unlock()
	s.input(conn)
	if s.task.StdinOnce {
		s.closeStdin()
	}
}

// input does what an attached client asks for until it goes.
func (s *streams) input(conn net.Conn) {
	for {
		kind, data, err := ReadFrame(conn)
		if err != nil {
			return
		}
		switch kind {
		case Stdin:
			s.mu.Lock()
			stdin := s.stdin
			s.mu.Unlock()
			if stdin != nil {
				// The container may have closed its input; what comes for it is dropped then.
				_, _ = stdin.Write(data)
			}
		case CloseStdin:
			if s.task.StdinOnce {
				s.closeStdin()
			}
		case Resize:
			if len(data) == 4 {
				s.resize(binary.BigEndian.Uint16(data), binary.BigEndian.Uint16(data[2:]))
			}
		}
	}
}

func (s *streams) resize(width, height uint16) {
	s.mu.Lock()
	terminal := s.terminal
	s.mu.Unlock()
	if terminal == nil {
		return
	}
	// Not File.Fd, which would switch the terminal to blocking reads.
	raw, err := terminal.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		// A terminal whose container is ending cannot be resized; nobody sees it any more.
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
}

func (s *streams) closeStdin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stdin != nil && s.terminal == nil {
		s.stdin.Close()
		s.stdin = nil
	}
}
