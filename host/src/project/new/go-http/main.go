// Answers HTTP requests: a page, one with a parameter, and one with a body.
package main

import (
	"net/url"
	"strings"

	"github.com/netwasm/netwasm"
)

// Nothing calls main: init is where a handler begins.
func init() { netwasm.ServeHTTP(answer) }

func main() {}

func answer(r *netwasm.Request) *netwasm.Response {
	switch {
	case r.Method == "GET" && r.Path == "/":
		return netwasm.HTML(200, "<h1>Home</h1>")
	case r.Method == "POST" && r.Path == "/echo":
		return &netwasm.Response{Body: r.Body()}
	}
	if name, ok := strings.CutPrefix(r.Path, "/hello/"); ok {
		if name, err := url.PathUnescape(name); err == nil {
			return netwasm.Text(200, "Hello, "+name+"!\n")
		}
	}
	return netwasm.Text(404, "Not found\n")
}
