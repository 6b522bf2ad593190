package apiserver

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/podarium/podarium/apiserver/auth"
)

// The audit log answers "who did that?": one line of JSON for each request, in
// the form of audit.k8s.io/v1 at level Metadata, so that tools made for
// Kubernetes read it. Bodies are not in it.
//
//	{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata",…,"stage":"ResponseComplete",
//	 "requestURI":"/api/v1/namespaces/default/pods/web","verb":"delete",
//	 "user":{"username":"kubernetes-admin",…},"objectRef":{"resource":"pods","namespace":"default","name":"web",…},
//	 "responseStatus":{"metadata":{},"code":200},…}
//
// A request that lasts (a watch, a shell) has a line ResponseStarted as well.

// AuditLog says where the audit log goes. The file is renamed when it is full:
// audit.log becomes audit-2026-11-21T10-25-17.000.log.
type AuditLog struct {
	Path      string // empty: none; "-": standard output
	MaxSizeMB int    // 0: 100
	MaxBackup int    // how many renamed files stay; 0: all
}

const defaultAuditMB = 100

// auditEvent is audit.k8s.io/v1 Event, as far as the level Metadata has it.
type auditEvent struct {
	metav1.TypeMeta  `json:",inline"`
	Level            string                     `json:"level"`
	AuditID          types.UID                  `json:"auditID"`
	Stage            string                     `json:"stage"`
	RequestURI       string                     `json:"requestURI"`
	Verb             string                     `json:"verb"`
	User             authenticationv1.UserInfo  `json:"user"`
	ImpersonatedUser *authenticationv1.UserInfo `json:"impersonatedUser,omitempty"`
	SourceIPs        []string                   `json:"sourceIPs,omitempty"`
	UserAgent        string                     `json:"userAgent,omitempty"`
	ObjectRef        *auditObject               `json:"objectRef,omitempty"`
	ResponseStatus   *metav1.Status             `json:"responseStatus,omitempty"`
	Received         metav1.MicroTime           `json:"requestReceivedTimestamp"`
	StageTime        metav1.MicroTime           `json:"stageTimestamp"`
	Annotations      map[string]string          `json:"annotations,omitempty"`
}

type auditObject struct {
	Resource    string `json:"resource,omitempty"`
	Namespace   string `json:"namespace,omitempty"`
	Name        string `json:"name,omitempty"`
	APIGroup    string `json:"apiGroup,omitempty"`
	APIVersion  string `json:"apiVersion,omitempty"`
	Subresource string `json:"subresource,omitempty"`
}

// auditLog writes lines. A nil one writes none.
type auditLog struct {
	cfg  AuditLog
	mu   sync.Mutex
	file *os.File
	size int64
}

func openAuditLog(cfg AuditLog) (*auditLog, error) {
	switch cfg.Path {
	case "":
		return nil, nil
	case "-":
		return &auditLog{cfg: cfg, file: os.Stdout}, nil
	}
	if cfg.MaxSizeMB <= 0 {
		cfg.MaxSizeMB = defaultAuditMB
	}
	l := &auditLog{cfg: cfg}
	return l, l.open()
}

func (l *auditLog) open() error {
	f, err := os.OpenFile(l.cfg.Path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open --audit-log-path: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return fmt.Errorf("open --audit-log-path: %w", err)
	}
	l.file, l.size = f, info.Size()
	return nil
}

func (l *auditLog) close() {
	if l != nil && l.cfg.Path != "-" {
		l.file.Close()
	}
}

func (l *auditLog) write(ev *auditEvent) {
	line, err := json.Marshal(ev)
	if err != nil {
		slog.Error("audit event cannot be encoded", "uri", ev.RequestURI, "err", err)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cfg.Path != "-" && l.size+int64(len(line)) >= int64(l.cfg.MaxSizeMB)<<20 {
		if err := l.rotate(); err != nil {
			slog.Error("audit log is not rotated", "err", err)
		}
	}
	n, err := l.file.Write(append(line, '\n'))
	l.size += int64(n)
	if err != nil {
		slog.Error("audit log lost a line", "err", err)
	}
}

// rotate renames the full file, begins a new one, and removes the oldest.
func (l *auditLog) rotate() error {
	extension := filepath.Ext(l.cfg.Path)
	base := strings.TrimSuffix(l.cfg.Path, extension)
	full := base + "-" + time.Now().UTC().Format("2006-01-02T15-04-05.000") + extension
	if err := os.Rename(l.cfg.Path, full); err != nil {
		return err
	}
	l.file.Close()
	if err := l.open(); err != nil {
		return err
	}
	if l.cfg.MaxBackup <= 0 {
		return nil
	}
	old, err := filepath.Glob(base + "-????-??-??T*" + extension)
	if err != nil {
		return err
	}
	slices.Sort(old) // by time, as the names are
	for _, file := range old[:max(0, len(old)-l.cfg.MaxBackup)] {
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}

// audit begins the record of a request; the returned function is called at
// each stage of it.
func (l *auditLog) audit(w http.ResponseWriter, r *request) (reached func(stage string, code int)) {
	id := types.UID(r.Header.Get("Audit-Id"))
	if id == "" || len(id) > 64 {
		id = uuid.NewUUID()
	}
	w.Header().Set("Audit-Id", string(id))
	if l == nil {
		return func(string, int) {}
	}
	received := metav1.NowMicro()
	return func(stage string, code int) {
		if stage == stageStarted && !longRunning(r) {
			return
		}
		ev := l.event(r, id, received)
		ev.Stage, ev.StageTime, ev.ResponseStatus = stage, metav1.NowMicro(), &metav1.Status{Code: int32(code)}
		if code >= http.StatusBadRequest {
			ev.ResponseStatus.Status = metav1.StatusFailure
		}
		l.write(ev)
	}
}

// The stages of a request that are told.
const (
	stageStarted  = "ResponseStarted"
	stageComplete = "ResponseComplete"
)

func (l *auditLog) event(r *request, id types.UID, received metav1.MicroTime) *auditEvent {
	ev := &auditEvent{
		TypeMeta: metav1.TypeMeta{Kind: "Event", APIVersion: "audit.k8s.io/v1"}, Level: "Metadata", AuditID: id,
		RequestURI: r.URL.RequestURI(), Verb: r.verb, SourceIPs: sourceIPs(r.Request), UserAgent: r.UserAgent(), Received: received,
	}
	user := auth.UserOf(r.Context())
	ev.User = auditUser(user)
	if r.caller != nil && r.caller != user {
		as := ev.User
		ev.User, ev.ImpersonatedUser = auditUser(r.caller), &as
	}
	if r.isResource {
		ev.ObjectRef = &auditObject{
			Resource: r.resource, Namespace: r.namespace, Name: r.name, APIGroup: r.group, APIVersion: r.version, Subresource: r.subresource,
		}
	}
	if r.decision != "" {
		ev.Annotations = map[string]string{"authorization.k8s.io/decision": r.decision, "authorization.k8s.io/reason": r.reason}
	}
	return ev
}

func auditUser(u *auth.User) authenticationv1.UserInfo {
	info := authenticationv1.UserInfo{Username: u.Name, UID: u.UID, Groups: u.Groups}
	for key, values := range u.Extra {
		if info.Extra == nil {
			info.Extra = map[string]authenticationv1.ExtraValue{}
		}
		info.Extra[key] = values
	}
	return info
}

// sourceIPs are where the request came from, through proxies that say so.
func sourceIPs(r *http.Request) []string {
	var list []string
	for ip := range strings.SplitSeq(r.Header.Get("X-Forwarded-For"), ",") {
		if ip = strings.TrimSpace(ip); net.ParseIP(ip) != nil {
			list = append(list, ip)
		}
	}
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil && !slices.Contains(list, host) {
		list = append(list, host)
	}
	return list
}
