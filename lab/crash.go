package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/podarium/podarium/lab/world"
)

// crashLimit is how often the API server may end by itself during a start,
// before `up` takes what it says for the reason that it will never run.
const crashLimit = 3

// crashPause is how often its log is looked at meanwhile.
const crashPause = 100 * time.Millisecond

// failWhenCrashing ends a start early when the API server cannot run, such as
// on a damaged etcd, with its own words instead of a time-out. The context
// that is returned ends then; stop ends the looking.
func failWhenCrashing(ctx context.Context, cfg world.Config) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	log := cfg.NodePath(1, "var", "log", "kube-apiserver.log")
	before := len(lastWords(log))
	go func() {
		tick := time.NewTicker(crashPause)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if words := lastWords(log)[before:]; len(words) >= crashLimit {
				cancel(fmt.Errorf("kube-apiserver cannot run: %s", words[len(words)-1]))
			}
		}
	}()
	return ctx, func() { cancel(errors.New("not needed any more")) }
}

// lastWords are what the API server has said each time it ended by itself;
// all else in its log begins with "time=".
func lastWords(log string) []string {
	data, err := os.ReadFile(log)
	if err != nil {
		return nil // it has not started yet
	}
	var words []string
	for line := range bytes.Lines(data) {
		if rest, ok := bytes.CutPrefix(line, []byte("podarium apiserver: ")); ok {
			words = append(words, string(bytes.TrimSpace(rest)))
		}
	}
	return words
}
