// A subscriber that costs little: answers 204 to every POST, and a GET with the number of POSTs so far. It knows as much of
// HTTP/1.1 as the two clients need that it has. Prints its port on a line of its own.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
)

var (
	count  atomic.Int64
	length = []byte("content-length:")
	answer = []byte("HTTP/1.1 204 No Content\r\n\r\n")
)

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go serve(connection)
	}
}

func serve(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, 64<<10)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return
		}
		posts := bytes.HasPrefix(line, []byte("POST "))
		body, err := skipHead(reader)
		if err != nil {
			return
		}
		if _, err = reader.Discard(body); err != nil {
			return
		}
		text := answer
		if posts {
			count.Add(1)
		} else {
			number := strconv.FormatInt(count.Load(), 10)
			text = []byte(fmt.Sprintf("HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(number), number))
		}
		if _, err = connection.Write(text); err != nil {
			return
		}
	}
}

// skipHead reads the header lines, and returns how long the body is.
func skipHead(reader *bufio.Reader) (int, error) {
	body := 0
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil || len(line) <= 2 {
			return body, err
		}
		if len(line) > len(length) && bytes.EqualFold(line[:len(length)], length) {
			if body, err = strconv.Atoi(string(bytes.TrimSpace(line[len(length):]))); err != nil {
				return 0, err
			}
		}
	}
}
