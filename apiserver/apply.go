package apiserver

import (
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func (s *Server) apply(w http.ResponseWriter, r *request, o writeOptions, body []byte) error {
	return plainStatus(http.StatusUnsupportedMediaType, metav1.StatusReasonUnsupportedMediaType, "apply is not served")
}
