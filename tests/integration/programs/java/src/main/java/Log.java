// SPDX-License-Identifier: Apache-2.0
import java.io.FileWriter;
import java.io.IOException;

/** A line of JSON for each request once its answer is written. */
final class Log {
    private final FileWriter out;

    Log(String path) throws IOException {
        out = new FileWriter(path, true);
    }

    synchronized void write(String method, String path, int status, int asked, int body, long begunNs) {
        try {
            out.write(String.format("{\"method\":\"%s\",\"path\":\"%s\",\"status\":%d,\"asked\":%d,\"body\":%d,\"seconds\":%.9f}%n", method, path, status, asked,
                                    body, (System.nanoTime() - begunNs) / 1e9));
            out.flush();
        } catch (IOException e) {
            throw new IllegalStateException(e);
        }
    }
}
