package apiserver

import "net/http"

func (s *Server) proxyToKubelet(w http.ResponseWriter, r *request) error { return errNoSuchPath }
