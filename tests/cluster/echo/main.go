// Command echo answers every request with what it saw, in the form that the suites' own upstreams use. It takes the
// place of images that a closed network cannot pull. Each argument is a port (80 without any); NAME is what it calls
// itself (its host name without one).
package main

import (
	"cmp"
	"encoding/json"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
)

// seen is `tests::Seen`.
type seen struct {
	Upstream string      `json:"upstream"`
	Method   string      `json:"method"`
	Target   string      `json:"target"`
	Version  string      `json:"version"`
	Host     string      `json:"host"`
	Headers  [][2]string `json:"headers"`
	Body     string      `json:"body"`
}

func main() {
	host, _ := os.Hostname()
	name := cmp.Or(os.Getenv("NAME"), host)
	ports := os.Args[1:]
	if len(ports) == 0 {
		ports = []string{"80"}
	}
	failed := make(chan error)
	for _, port := range ports {
		go func() { failed <- http.ListenAndServe(":"+port, answer(name)) }()
	}
	log.Fatal(<-failed)
}

func answer(name string) http.HandlerFunc {
	return func(writer http.ResponseWriter, request *http.Request) {
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		saw := seen{name, request.Method, request.RequestURI, request.Proto, request.Host, [][2]string{}, string(body)}
		for header, values := range request.Header {
			for _, value := range values {
				saw.Headers = append(saw.Headers, [2]string{strings.ToLower(header), value})
			}
		}
		slices.SortStableFunc(saw.Headers, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
		writer.Header().Set("Content-Type", "application/json")
		// A client that has gone away is nobody's fault.
		_ = json.NewEncoder(writer).Encode(saw)
	}
}
