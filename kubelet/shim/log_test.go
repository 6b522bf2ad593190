package shim

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestLinesBecomeRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pod", "0.log")
	log, err := openLog(path)
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
	log, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.close()
	text := bytes.Repeat([]byte("x"), maxLine)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for files := 0; files < keepLogs+2; now = now.Add(time.Second) {
		before := log.size
		if err := log.append(now, "stdout", true, text); err != nil {
			t.Fatal(err)
		}
		if log.size < before {
			files++
		}
	}
	old, err := filepath.Glob(path + ".*")
	if err != nil || len(old) != keepLogs {
		t.Errorf("%d old files are kept, want %d: %v", len(old), keepLogs, err)
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
