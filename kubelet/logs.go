package kubelet

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// logRequest is what kubectl logs may ask for.
type logRequest struct {
	follow, timestamps, previous bool
	tail                         int64 // lines; negative means all
	since                        time.Time
	limit                        int64  // bytes; 0 means no limit
	stream                       string // All, Stdout, Stderr
}

func parseLogRequest(query url.Values, now time.Time) (logRequest, error) {
	r := logRequest{tail: -1, stream: "All"}
	is := func(name string) bool { value, err := strconv.ParseBool(query.Get(name)); return err == nil && value }
	r.follow, r.timestamps, r.previous = is("follow"), is("timestamps"), is("previous")
	number := func(name string, least int64) (int64, error) {
		text := query.Get(name)
		if text == "" {
			return -1, nil
		}
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil || value < least {
			return 0, fmt.Errorf("%s: Invalid value: %q", name, text)
		}
		return value, nil
	}
	var err error
	if r.tail, err = number("tailLines", 0); err != nil {
		return r, err
	}
	limit, err := number("limitBytes", 1)
	if err != nil {
		return r, err
	}
	r.limit = max(0, limit)
	seconds, err := number("sinceSeconds", 1)
	if err != nil {
		return r, err
	}
	if seconds >= 0 {
		r.since = now.Add(-time.Duration(seconds) * time.Second)
	}
	if text := query.Get("sinceTime"); text != "" {
		if r.since, err = time.Parse(time.RFC3339, text); err != nil {
			return r, fmt.Errorf("sinceTime: Invalid value: %q", text)
		}
	}
	if stream := query.Get("stream"); stream != "" {
		r.stream = stream
	}
	return r, nil
}

// serveLogs answers kubectl logs.
func (k *Kubelet) serveLogs(w http.ResponseWriter, r *http.Request) {
	request, err := parseLogRequest(r.URL.Query(), time.Now())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	namespace, pod, name := r.PathValue("namespace"), r.PathValue("pod"), r.PathValue("container")
	worker := k.worker(namespace, pod)
	if worker == nil {
		http.Error(w, fmt.Sprintf("pod %q does not exist", pod), http.StatusNotFound)
		return
	}
	path, ended, err := worker.logFile(name, request.previous)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	out := &flushWriter{w: w, flush: request.follow}
	if request.follow {
		w.WriteHeader(http.StatusOK)
		_ = http.NewResponseController(w).Flush() // a client that went away is noticed by the next write
	}
	if err := readLog(r.Context(), path, request, ended, out); err != nil && !errors.Is(err, errLimit) {
		fmt.Fprintf(w, "%v\n", err)
	}
}

// logFile finds a container's log; ended is closed when nothing more will come.
func (w *worker) logFile(name string, previous bool) (path string, ended <-chan struct{}, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	have := w.containers[name]
	if have == nil || have.record.ID == "" {
		c := findContainer(w.pod, name)
		if c == nil {
			return "", nil, fmt.Errorf("container %q in pod %q is not available", name, w.pod.Name)
		}
		return "", nil, fmt.Errorf("container %q in pod %q is waiting to start: %s", name, w.pod.Name, w.facts().whyNoLog(c))
	}
	attempt := have.record.Attempt
	ended = have.exited
	if previous {
		attempt--
		closed := make(chan struct{})
		close(closed)
		ended = closed
	}
	path = filepath.Join(filepath.Dir(have.record.LogPath), strconv.Itoa(attempt)+".log")
	if _, err := os.Stat(path); previous && err != nil {
		return "", nil, fmt.Errorf("previous terminated container %q in pod %q not found", name, w.pod.Name)
	}
	return path, ended, nil
}

// whyNoLog is what kubectl logs says of a container which has not begun.
func (f facts) whyNoLog(c *corev1.Container) string {
	waiting := f.containerStatus(c).State.Waiting
	switch {
	case waiting == nil:
		return "ContainerCreating"
	case waiting.Reason == "ErrImagePull":
		return "image can't be pulled"
	case waiting.Reason == "ImagePullBackOff":
		return "trying and failing to pull image"
	default:
		return waiting.Reason
	}
}

type flushWriter struct {
	w     http.ResponseWriter
	flush bool
}

func (f *flushWriter) Write(data []byte) (int, error) {
	n, err := f.w.Write(data)
	if err == nil && f.flush {
		err = http.NewResponseController(f.w).Flush()
	}
	return n, err
}

// errLimit ends the reading when limitBytes are written.
var errLimit = errors.New("limit of bytes is reached")

// readLog writes a container's log to out. When it follows, it waits for more by watching the log's
// directory until the container has ended, and goes over to the new file when the shim put the old
// one aside.
func readLog(ctx context.Context, path string, request logRequest, ended <-chan struct{}, out io.Writer) error {
	var changes <-chan struct{}
	if request.follow {
		watching, cancel := context.WithCancel(ctx)
		defer cancel()
		changes = watchDir(watching, filepath.Dir(path))
	}
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { file.Close() }()
	if request.tail >= 0 {
		if err := seekTail(file, request.tail); err != nil {
			return fmt.Errorf("find last lines of log: %w", err)
		}
	}
	writer := logWriter{request: request, out: out, left: request.limit}
	reader := bufio.NewReaderSize(file, 32<<10)
	for over := false; ; {
		if err := writer.copy(reader); err != nil {
			return err
		}
		next, err := rotated(file, path)
		if err != nil {
			return err
		}
		if next != nil {
			file.Close()
			file, reader = next, bufio.NewReaderSize(next, 32<<10)
			continue
		}
		if !request.follow || over {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changes:
		case <-ended:
			over = true // once more, for what came before the end
		}
	}
}

// rotated opens the file which stands at path now if it is another one.
func rotated(file *os.File, path string) (*os.File, error) {
	have, err := file.Stat()
	if err != nil {
		return nil, err
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || (err == nil && os.SameFile(have, now)) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

// logWriter turns records of the file into what the client wants to see.
type logWriter struct {
	request logRequest
	out     io.Writer
	left    int64 // bytes, when there is a limit
	half    []byte
	inLine  bool // the last record was partial: the next one continues its line
}

// copy reads to the end of the file; half a record waits for the next call.
func (l *logWriter) copy(reader *bufio.Reader) error {
	for {
		line, err := reader.ReadBytes('\n')
		l.half = append(l.half, line...)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		record := l.half
		l.half = nil
		if err := l.record(record); err != nil {
			return err
		}
	}
}

func (l *logWriter) record(line []byte) error {
	r, ok := parseRecord(line)
	if !ok {
		return nil // a line which a crash cut short
	}
	if r.time.Before(l.request.since) || (l.request.stream != "All" && !strings.EqualFold(l.request.stream, r.stream)) {
		return nil
	}
	text := r.text
	if l.request.timestamps && !l.inLine {
		text = append([]byte(r.time.Format(time.RFC3339Nano)+" "), text...)
	}
	l.inLine = !r.full
	if r.full {
		text = append(text, '\n')
	}
	if l.request.limit > 0 {
		text = text[:min(int64(len(text)), l.left)]
		l.left -= int64(len(text))
	}
	if _, err := l.out.Write(text); err != nil {
		return err
	}
	if l.request.limit > 0 && l.left == 0 {
		return errLimit
	}
	return nil
}

// logRecord is one line of a log file: "2026-01-02T03:04:05.000000006Z stdout F text".
type logRecord struct {
	time   time.Time
	stream string
	full   bool // false: the line goes on in the next record
	text   []byte
}

func parseRecord(line []byte) (logRecord, bool) {
	parts := bytes.SplitN(bytes.TrimSuffix(line, []byte("\n")), []byte(" "), 4)
	if len(parts) != 4 || (string(parts[1]) != "stdout" && string(parts[1]) != "stderr") {
		return logRecord{}, false
	}
	at, err := time.Parse(time.RFC3339Nano, string(parts[0]))
	if err != nil {
		return logRecord{}, false
	}
	tag, _, _ := strings.Cut(string(parts[2]), ":")
	return logRecord{at, string(parts[1]), tag == "F", bytes.Clone(parts[3])}, true
}

// seekTail moves to the first of the last n lines, reading blocks from the end backwards.
func seekTail(file *os.File, n int64) error {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil || n == 0 {
		return err
	}
	block := make([]byte, 32<<10)
	seen := int64(-1) // the line end at the very end of the file begins no line
	for at := end; at > 0; {
		size := min(at, int64(len(block)))
		at -= size
		if _, err := file.ReadAt(block[:size], at); err != nil {
			return err
		}
		for i := size - 1; i >= 0; i-- {
			if block[i] != '\n' {
				continue
			}
			if seen++; seen == n {
				_, err := file.Seek(at+i+1, io.SeekStart)
				return err
			}
		}
	}
	_, err = file.Seek(0, io.SeekStart)
	return err
}

// logTail is the end of a log as text: at most so many lines and bytes.
func logTail(path string, lines, size int64) string {
	var text bytes.Buffer
	ended := make(chan struct{})
	close(ended)
	if err := readLog(context.Background(), path, logRequest{tail: lines, stream: "All"}, ended, &text); err != nil {
		return ""
	}
	tail := text.Bytes()
	return string(tail[max(0, int64(len(tail))-size):])
}
