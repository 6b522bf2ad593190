package apiserver

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	openapi_v2 "github.com/google/gnostic-models/openapiv2"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/podarium/podarium/apiserver/openapi"
	"github.com/podarium/podarium/apiserver/resource"
	"github.com/podarium/podarium/internal/kube"
)

// protoV2 is what answers say. Clients ask for it with "@" in the place of the
// second "v2.": no media type may hold that, and Go's parser refuses it.
const protoV2 = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"

// documents keeps the OpenAPI documents once they have been asked for,
// compressed: 100 KB instead of 1 MB each.
type documents struct {
	mu     sync.Mutex
	zipped map[string][]byte
}

func (d *documents) get(name string, build func() ([]byte, error)) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if doc, ok := d.zipped[name]; ok {
		return doc, nil
	}
	doc, err := build()
	if err != nil {
		return nil, err
	}
	var zipped bytes.Buffer
	zip := gzip.NewWriter(&zipped)
	zip.Write(doc)
	zip.Close()
	if d.zipped == nil {
		d.zipped = map[string][]byte{}
	}
	d.zipped[name] = zipped.Bytes()
	return zipped.Bytes(), nil
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, r *request, path string) error {
	switch path {
	case "/openapi/v3":
		writeJSON(w, http.StatusOK, mediaJSON, s.openAPIIndex())
		return nil
	case "/openapi/v2":
		return s.serveOpenAPIV2(w, r)
	}
	gv, ok := s.openAPIGroup(strings.TrimPrefix(path, "/openapi/v3/"))
	if !ok {
		return errNoSuchPath
	}
	doc, err := s.openapi.get(gv.String(), func() ([]byte, error) { return openapi.V3(resource.Kinds, gv, kube.Version) })
	if err != nil {
		return err
	}
	return s.writeDocument(w, r, mediaJSON, doc)
}

// serveOpenAPIV2 answers in protobuf to those who ask for it, which is what
// client-go does.
func (s *Server) serveOpenAPIV2(w http.ResponseWriter, r *request) error {
	build := func() ([]byte, error) { return openapi.V2(resource.Kinds, kube.Version) }
	if !strings.Contains(r.Header.Get("Accept"), "proto-openapi.spec.v2") {
		doc, err := s.openapi.get("v2", build)
		if err != nil {
			return err
		}
		return s.writeDocument(w, r, mediaJSON, doc)
	}
	doc, err := s.openapi.get("v2.pb", func() ([]byte, error) {
		text, err := build()
		if err != nil {
			return nil, err
		}
		parsed, err := openapi_v2.ParseDocument(text)
		if err != nil {
			return nil, fmt.Errorf("parse OpenAPI document: %w", err)
		}
		return proto.Marshal(parsed)
	})
	if err != nil {
		return err
	}
	return s.writeDocument(w, r, protoV2, doc)
}

func (s *Server) writeDocument(w http.ResponseWriter, r *request, contentType string, zipped []byte) error {
	etag := fmt.Sprintf("%q", documentHash())
	h := w.Header()
	h.Set("Etag", etag)
	h.Set("Vary", "Accept")
	if r.URL.Query().Has("hash") {
		h.Set("Cache-Control", "public, immutable")
	}
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	h.Set("Content-Type", contentType)
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		w.Write(zipped)
		return nil
	}
	zip, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		return err
	}
	_, _ = io.Copy(w, zip) // the client may be gone
	return nil
}

// openAPIIndex tells where each group's document is. The hash in the address
// lets clients keep a document until the server changes.
func (s *Server) openAPIIndex() any {
	type link struct {
		URL string `json:"serverRelativeURL"`
	}
	paths := map[string]link{}
	for _, k := range resource.Kinds {
		p := "apis/" + k.GroupVersion.String()
		if k.GroupVersion.Group == "" {
			p = "api/v1"
		}
		paths[p] = link{"/openapi/v3/" + p + "?hash=" + documentHash()}
	}
	return map[string]any{"paths": paths}
}

func documentHash() string {
	sum := sha256.Sum256([]byte(kube.Version))
	return strings.ToUpper(fmt.Sprintf("%x", sum))
}

func (s *Server) openAPIGroup(path string) (schema.GroupVersion, bool) {
	for _, k := range resource.Kinds {
		if path == "apis/"+k.GroupVersion.String() || path == "api/v1" && k.GroupVersion.Group == "" {
			return k.GroupVersion, true
		}
	}
	return schema.GroupVersion{}, false
}
