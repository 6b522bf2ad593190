package shim

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// maxLine is where a long line is cut: the parts before the last have tag P, partial.
const maxLine = 16 << 10

// logFile is a container's output on disk, in the format of the container runtime interface.
type logFile struct {
	path     string
	maxSize  int64 // at which it is put aside; 0 is never
	maxFiles int   // how many stay, with the one being written

	mu   sync.Mutex
	file *os.File
	size int64
}

func openLog(task Task) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(task.LogPath), 0o755); err != nil {
		return nil, err
	}
	l := &logFile{path: task.LogPath, maxSize: task.LogMaxSize, maxFiles: task.LogMaxFiles}
	return l, l.open()
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.file, l.size = f, info.Size()
	return nil
}

// append writes one record: "2026-01-02T03:04:05.000000006Z stdout F text\n".
func (l *logFile) append(now time.Time, stream string, full bool, text []byte) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	tag := byte('P')
	if full {
		tag = 'F'
	}
	record := now.UTC().AppendFormat(make([]byte, 0, len(text)+48), time.RFC3339Nano)
	record = append(append(append(record, ' '), stream...), ' ', tag, ' ')
	record = append(append(record, text...), '\n')
	n, err := l.file.Write(record)
	l.size += int64(n)
	if err == nil && l.maxSize > 0 && l.size >= l.maxSize && full {
		return l.rotate(now)
	}
	return err
}

// rotate puts the file aside as PATH.20260102-030405 and starts a new one. When one of this second is
// there already, the file grows on until the next.
func (l *logFile) rotate(now time.Time) error {
	aside := l.path + "." + now.UTC().Format("20060102-150405")
	if _, err := os.Lstat(aside); err == nil {
		return nil
	}
	l.file.Close()
	if err := os.Rename(l.path, aside); err != nil {
		return err
	}
	old, err := filepath.Glob(l.path + ".*")
	if err != nil {
		return err
	}
	slices.Sort(old)
	for len(old) > max(0, l.maxFiles-1) {
		os.Remove(old[0])
		old = old[1:]
	}
	return l.open()
}

func (l *logFile) close() { l.file.Close() }

// lines cuts a stream of bytes into records of one line, or of maxLine bytes.
type lines struct {
	log    *logFile
	stream string
	rest   []byte // the beginning of a line whose end has not come yet
}

func (w *lines) Write(data []byte) (int, error) {
	now := time.Now()
	w.rest = append(w.rest, data...)
	for {
		end := bytes.IndexByte(w.rest, '\n')
		switch {
		case end >= 0 && end <= maxLine:
			if err := w.log.append(now, w.stream, true, w.rest[:end]); err != nil {
				return 0, err
			}
			w.rest = w.rest[end+1:]
		case len(w.rest) >= maxLine:
			if err := w.log.append(now, w.stream, false, w.rest[:maxLine]); err != nil {
				return 0, err
			}
			w.rest = w.rest[maxLine:]
		default:
			return len(data), nil
		}
	}
}

// flush writes what came after the last line end. A reader gets it without a line end.
func (w *lines) flush() {
	if len(w.rest) > 0 {
		// The container has ended and there is nobody left to tell about a full disk.
		_ = w.log.append(time.Now(), w.stream, false, w.rest)
		w.rest = nil
	}
}
