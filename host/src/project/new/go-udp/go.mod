module {{name}}

go 1.24

require github.com/netwasm/netwasm v0.0.0

replace github.com/netwasm/netwasm => ./netwasm
