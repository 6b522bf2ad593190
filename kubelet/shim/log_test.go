package shim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLinesBecomeRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pod", "0.log")
	log, err := openLog(Task{LogPath: path})
	if err != nil {
		t.Fatal(err)
	}
	defer log.close()
	out := &lines{log: log, stream: "stdout"}
	for _, piece := range []string{"one\ntw", "o\n", "\n", strings.Repeat("x", maxLine+3) + "\n", "rest"} {
		if _, err := io.WriteString(out, piece); err != nil {
			t.Fatal(err)
		}
	}
	out.flush()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(data)) {
		stamp, record, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
			t.Error(err)
		}
		got = append(got, strings.ReplaceAll(record, strings.Repeat("x", maxLine), "x…"))
	}
	want := "stdout F one|stdout F two|stdout F |stdout P x…|stdout F xxx|stdout P rest"
	if joined := strings.Join(got, "|"); joined != want {
		t.Errorf("got  %s\nwant %s", joined, want)
	}
}

func TestLogIsPutAsideWhenItIsLong(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "0.log")
	log, err := openLog(Task{LogPath: path, LogMaxSize: 100, LogMaxFiles: 3})
	if err != nil {
		t.Fatal(err)
	}
	defer log.close()
	text := bytes.Repeat([]byte("x"), 40) // a record is 78 bytes: every second one fills a file
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for range 10 {
		if err := log.append(now, "stdout", true, text); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Second)
	}
	old, err := filepath.Glob(path + ".*")
	want := []string{path + ".20260102-030412", path + ".20260102-030414"}
	if err != nil || !slices.Equal(old, want) {
		t.Errorf("kept are %v, want %v: %v", old, want, err)
	}
	// Twice in one second: nothing may be lost.
	for range 4 {
		if err := log.append(now, "stdout", true, text); err != nil {
			t.Fatal(err)
		}
	}
	if aside, err := os.ReadFile(path + ".20260102-030415"); err != nil || bytes.Count(aside, text) != 2 || log.size < 100 {
		t.Errorf("put aside: %q %v; %d bytes in the new file, want more than 100", aside, err, log.size)
	}
}

func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	if err := errors.Join(WriteFrame(&wire, Stdout, []byte("hello")), WriteFrame(&wire, CloseStdin, nil)); err != nil {
		t.Fatal(err)
	}
	if kind, data, err := ReadFrame(&wire); err != nil || kind != Stdout || string(data) != "hello" {
		t.Errorf("first frame: %v %q %v", kind, data, err)
	}
	if kind, data, err := ReadFrame(&wire); err != nil || kind != CloseStdin || len(data) != 0 {
		t.Errorf("second frame: %v %q %v", kind, data, err)
	}
	if _, _, err := ReadFrame(&wire); !errors.Is(err, io.EOF) {
		t.Errorf("after the last frame: %v, want EOF", err)
	}
	if _, _, err := ReadFrame(strings.NewReader("\x01\xff\xff\xff\xff")); err == nil {
		t.Error("a frame of 4 GB was accepted")
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x00\x01x"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		r := bytes.NewReader(data)
		for {
			if _, _, err := ReadFrame(r); err != nil {
				return
			}
		}
	})
}
