// Answers HTTP requests: a page, one with a parameter, and JSON.
package main

import (
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/netwasm/netwasm"
)

// Nothing calls main: init is where a handler begins.
func init() { netwasm.ServeHTTP(answer) }

func main() {}

func answer(r *netwasm.Request) *netwasm.Response {
	// HEAD is answered as GET is; the host sends no body.
	reads := r.Method == "GET" || r.Method == "HEAD"
	switch {
	case reads && r.Path == "/":
		return netwasm.HTML(200, "<h1>Home</h1>")
	case r.Method == "POST" && r.Path == "/sum":
		return sum(r.Body())
	}
	if name, ok := strings.CutPrefix(r.Path, "/hello/"); ok && reads {
		if name, err := url.PathUnescape(name); err == nil {
			return netwasm.Text(200, "Hello, "+name+"!\n")
		}
	}
	return netwasm.Text(404, "Not found\n")
}

func sum(body []byte) *netwasm.Response {
	var numbers []int
	if err := json.Unmarshal(body, &numbers); err != nil {
		return netwasm.Text(400, err.Error()+"\n")
	}
	total := 0
	for _, number := range numbers {
		total += number
	}
	return netwasm.JSON(200, []byte(strconv.Itoa(total)))
}
