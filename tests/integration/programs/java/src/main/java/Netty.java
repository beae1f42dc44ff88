// SPDX-License-Identifier: Apache-2.0
import io.netty.bootstrap.Bootstrap;
import io.netty.bootstrap.ServerBootstrap;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInitializer;
import io.netty.channel.ChannelOption;
import io.netty.channel.EventLoopGroup;
import io.netty.channel.SimpleChannelInboundHandler;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioServerSocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import io.netty.handler.codec.http.DefaultFullHttpRequest;
import io.netty.handler.codec.http.DefaultFullHttpResponse;
import io.netty.handler.codec.http.FullHttpRequest;
import io.netty.handler.codec.http.FullHttpResponse;
import io.netty.handler.codec.http.HttpClientCodec;
import io.netty.handler.codec.http.HttpMethod;
import io.netty.handler.codec.http.HttpObjectAggregator;
import io.netty.handler.codec.http.HttpResponseStatus;
import io.netty.handler.codec.http.HttpServerCodec;
import io.netty.handler.codec.http.HttpVersion;
import java.net.URI;

/** A Netty server on four event loops: Netty OUT PORT LOG UPSTREAM. OUT: own (calls go out on the request's event loop) or any (on any of them). */
public final class Netty {
    private static Log log;
    private static String out;
    private static URI upstream;
    private static final EventLoopGroup loops = new NioEventLoopGroup(4);

    private static final class Answer extends SimpleChannelInboundHandler<FullHttpResponse> {
        private final Handler handler;
        private final ChannelHandlerContext to;
        private final FullHttpRequest request;
        private final long begun;

        Answer(Handler handler, ChannelHandlerContext to, FullHttpRequest request, long begun) {
            this.handler = handler;
            this.to = to;
            this.request = request;
            this.begun = begun;
        }

        @Override
        protected void channelRead0(ChannelHandlerContext c, FullHttpResponse r) {
            byte[] body = new byte[r.content().readableBytes()];
            r.content().readBytes(body);
            int status = r.status().code();
            c.close();
            to.executor().execute(() -> {
                handler.answer(to, request, status, body, begun);
                request.release();
            });
        }
    }

    private static final class Handler extends SimpleChannelInboundHandler<FullHttpRequest> {
        void answer(ChannelHandlerContext c, FullHttpRequest q, int status, byte[] body, long begun) {
            var r = new DefaultFullHttpResponse(HttpVersion.HTTP_1_1, HttpResponseStatus.valueOf(status), Unpooled.wrappedBuffer(body));
            r.headers().set("content-length", body.length);
            String method = q.method().name(), path = q.uri();
            int asked = q.content().readableBytes();
            c.writeAndFlush(r).addListener(f -> log.write(method, path, status, asked, body.length, begun));
        }

        @Override
        protected void channelRead0(ChannelHandlerContext c, FullHttpRequest q) {
            long begun = System.nanoTime();
            String[] words = q.uri().split("/");
            switch (words[1]) {
            case "size" -> answer(c, q, 200, new byte[Integer.parseInt(words[2])], begun);
            case "status" -> answer(c, q, Integer.parseInt(words[2]), "status".getBytes(), begun);
            case "echo" -> {
                byte[] body = new byte[q.content().readableBytes()];
                q.content().getBytes(0, body);
                answer(c, q, 200, body, begun);
            }
            case "call" -> {
                q.retain();
                EventLoopGroup group = out.equals("own") ? c.channel().eventLoop() : loops;
                new Bootstrap().group(group).channel(NioSocketChannel.class).handler(new ChannelInitializer<Channel>() {
                    @Override
                    protected void initChannel(Channel ch) {
                        ch.pipeline().addLast(new HttpClientCodec(), new HttpObjectAggregator(1 << 20), new Answer(Handler.this, c, q, begun));
                    }
                }).connect(upstream.getHost(), upstream.getPort()).addListener((io.netty.channel.ChannelFuture f) -> {
                    var ask = new DefaultFullHttpRequest(HttpVersion.HTTP_1_1, HttpMethod.GET, "/wait" + q.uri().substring(5));
                    ask.headers().set("host", upstream.getHost() + ":" + upstream.getPort());
                    f.channel().writeAndFlush(ask);
                });
            }
            default -> answer(c, q, 404, "none".getBytes(), begun);
            }
        }
    }

    public static void main(String[] args) throws Exception {
        out = args[0];
        upstream = URI.create(args[3]);
        log = new Log(args[2]);
        new ServerBootstrap().group(loops).channel(NioServerSocketChannel.class).option(ChannelOption.SO_BACKLOG, 512)
            .childHandler(new ChannelInitializer<Channel>() {
                @Override
                protected void initChannel(Channel ch) {
                    ch.pipeline().addLast(new HttpServerCodec(), new HttpObjectAggregator(1 << 20), new Handler());
                }
            }).bind("127.0.0.1", Integer.parseInt(args[1])).sync();
    }
}
