package store

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// zapBridge hands etcd's log to slog: warnings and worse, for the rest is
// etcd's own business.
type zapBridge struct {
	fields []zapcore.Field
	fatal  chan<- error
	quiet  *atomic.Bool // etcd is being stopped: what it says about that is no news
}

func newZapBridge(fatal chan<- error, quiet *atomic.Bool) *zap.Logger {
	return zap.New(&zapBridge{fatal: fatal, quiet: quiet})
}

func (b *zapBridge) Enabled(level zapcore.Level) bool { return level >= zapcore.WarnLevel }

func (b *zapBridge) With(fields []zapcore.Field) zapcore.Core {
	return &zapBridge{fields: append(slices.Clip(b.fields), fields...), fatal: b.fatal, quiet: b.quiet}
}

func (b *zapBridge) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if b.Enabled(e.Level) {
		return ce.AddCore(e, b)
	}
	return ce
}

// Write logs one entry. An entry at panic or fatal level is etcd's last word:
// it would end the process next. It is handed to whoever started etcd, who
// can say it in one line, and the goroutine ends here instead of the process.
func (b *zapBridge) Write(e zapcore.Entry, fields []zapcore.Field) error {
	if uninteresting(e.Message) || b.quiet.Load() && e.Level < zapcore.DPanicLevel {
		return nil
	}
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(b.fields), fields...) {
		f.AddTo(enc)
	}
	if e.Level >= zapcore.DPanicLevel {
		reason := fmt.Errorf("%s", e.Message)
		if cause, ok := enc.Fields["error"]; ok {
			reason = fmt.Errorf("%s: %v", e.Message, cause)
		}
		select {
		case b.fatal <- reason:
		default:
		}
		slog.Error("etcd gave up", "reason", reason)
		runtime.Goexit()
	}
	level := slog.LevelWarn
	if e.Level >= zapcore.ErrorLevel {
		level = slog.LevelError
	}
	attrs := make([]any, 0, 2*len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, k, v)
	}
	slog.Log(context.Background(), level, "etcd: "+e.Message, attrs...) //nolint:sloglint // etcd's own words
	return nil
}

// uninteresting are the warnings of every start, the last two of the first one
// on an empty directory.
func uninteresting(message string) bool {
	return strings.HasPrefix(message, "Running http and grpc server on single port") ||
		strings.HasPrefix(message, "simple token is not cryptographically signed") ||
		strings.HasPrefix(message, "Failed to detect schema version") ||
		strings.HasPrefix(message, "failed to update storage version")
}

func (b *zapBridge) Sync() error { return nil }
