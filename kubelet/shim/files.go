package shim

import (
	"encoding/json"
	"os"
	"time"
)

// Names of the files in a container's bundle, which is the shim's directory; the exit status stands
// where it survives a boot.
const (
	TaskFile   = "shim.json" // written by the kubelet: what to run
	ExitFile   = "exit.json" // written by the shim: how it ended
	SocketFile = "shim.sock" // the shim listens here while the container lives
	PidFile    = "init.pid"  // the container's first process, written by runc
	// StartLock is locked (flock(2)) from before the shim is started until the container runs or cannot:
	// kubelet and shim share the lock, so it outlives a kubelet which is killed meanwhile.
	StartLock = "start.lock"
	runcLog   = "runc.log"
)

// Task tells a shim what to run.
type Task struct {
	ID        string `json:"id"`        // name of the container for runc
	Runc      string `json:"runc"`      // path of the runc program
	RuncRoot  string `json:"runcRoot"`  // directory of runc's own state
	LogPath   string `json:"logPath"`   // file of the container's output
	ExitPath  string `json:"exitPath"`  // file for the exit status
	Stdin     bool   `json:"stdin"`     // keep standard input open for attach
	StdinOnce bool   `json:"stdinOnce"` // close it when the first attach ends
	TTY       bool   `json:"tty"`       // give the container a terminal
	UID       int    `json:"uid"`       // owner of the output pipes, so that /dev/stdout can be
	GID       int    `json:"gid"`       // opened by a process which is not root
	// Hold is a file on which the shim has a shared lock (flock(2)) while the container runs; may be empty.
	Hold string `json:"hold,omitempty"`
	// LogMaxSize is at how many bytes a log file is put aside (0: never), LogMaxFiles how many files
	// stay, with the one being written.
	LogMaxSize  int64 `json:"logMaxSize,omitempty"`
	LogMaxFiles int   `json:"logMaxFiles,omitempty"`
}

// Exit is how a container ended.
type Exit struct {
	// Code is the exit status as shells count it: 128 + n when signal n ended the process.
	Code int `json:"code"`
	// Signal is the signal that ended the process, 0 if none did.
	Signal int `json:"signal,omitempty"`
	// OOMKilled is true when the kernel killed a process of the container for memory.
	OOMKilled bool      `json:"oomKilled,omitempty"`
	Finished  time.Time `json:"finished"`
}

// WriteFile writes value as JSON and renames it into place, so that a reader finds all or nothing.
func WriteFile(path string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", data, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// ReadFile reads what WriteFile wrote.
func ReadFile(path string, value any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return json.Unmarshal(data, value)
}
