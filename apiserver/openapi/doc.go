// Package openapi describes the API to clients in the form they ask for:
// OpenAPI v3 (one document a group) and v2 (one document for all). `kubectl
// explain` prints it, and `kubectl apply` learns from it which lists are merged
// by key.
//
// Nothing is generated beforehand. The documents are made from the Go types when
// somebody asks for the first time: fields and their types from the json tags,
// descriptions from SwaggerDoc, merge keys from the patch tags.
package openapi
